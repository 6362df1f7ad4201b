// Losses of texts by windows, of references and of last words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/eval/continuation_loss.h"
#include "rwkvx/eval/text_loss.h"
#include "support/random_model.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;

// Of each byte of `text` but the first, given those before it.
std::vector<double> losses_of(Generator& generator, const std::string& text) {
  Session session(generator);
  std::vector<double> losses;
  session.feed(text, [&](const PromptToken& one) {
    if (one.logprob) losses.push_back(-*one.logprob);
  });
  return losses;
}

class LikelihoodLoss : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return made_.folder / name; }
  std::string write(const std::string& name, const std::vector<nlohmann::json>& lines) const {
    std::string text;
    for (const auto& line : lines) text += line.dump() + "\n";
    write_file(path(name), text);
    return path(name);
  }
  RandomModel made_;
};

TEST_F(LikelihoodLoss, WindowsAreThoseOfTransformers) {
  std::string text;
  for (int i = 0; i < 60; ++i) text += "bird " + std::to_string(i * i) + ", ";
  write_file(path("text.txt"), text);
  const auto size = static_cast<std::int64_t>(text.size());
  for (const auto& [length, stride] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {64, 32}, {64, 64}, {33, 7}, {9999, 500}}) {
    // https://huggingface.co/docs/transformers/perplexity, the loop over begin_loc.
    double sum = 0, weighted = 0;
    std::int64_t scored = 0, weights = 0, end_before = 0;
    for (std::int64_t begin = 0; begin < size; begin += stride) {
      const auto end = std::min(begin + length, size), target = end - end_before;
      const auto losses = losses_of(
          *made_.generator,
          text.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
      // Labels but those of the last `target` tokens are ignored, and shifted by one.
      const auto valid = std::min<std::int64_t>(target, static_cast<std::int64_t>(losses.size()));
      double of_window = 0;
      for (std::int64_t k = 0; k < valid; ++k)
        of_window += losses[losses.size() - 1 - static_cast<std::size_t>(k)];
      sum += of_window;
      scored += valid;
      if (valid > 0)
        weighted += of_window / static_cast<double>(valid) * static_cast<double>(target - 1);
      weights += target - 1;
      end_before = end;
      if (end == size) break;
    }
    const auto found = window_loss(*made_.generator, path("text.txt"), {}, length, stride, 1, true);
    EXPECT_EQ(found.tokens, scored) << length;
    EXPECT_NEAR(found.loss(), sum / static_cast<double>(scored), 1e-6);
    EXPECT_NEAR(found.loss_by_windows, weighted / static_cast<double>(weights), 1e-6);
    EXPECT_EQ(found.bytes, scored);  // of the byte tokenizer
  }
  write_file(path("one.txt"), "a");
  EXPECT_THROW(window_loss(*made_.generator, path("one.txt"), {}, 4, 2, 1, true), DataError);
}

TEST_F(LikelihoodLoss, ReferencesCountEachGivenTheirPrompt) {
  const auto file = write(
      "prompts.jsonl", {{{"prompt", "the bird"}, {"reference", {" sings", " is ü"}}, {"id", "x"}},
                        {{"prompt", "a fox "}, {"reference", "listens"}}});
  const auto found = reference_loss(*made_.generator, file, {}, ContinuationTokens::kJoint,
                                    path("details.jsonl"), true);
  EXPECT_EQ(found.items, 2);
  EXPECT_EQ(found.continuations, 3);
  EXPECT_EQ(found.bytes, 6 + 6 + 7);
  EXPECT_EQ(found.tokens, 6 + 6 + 8);  // the blank at the prompt's end is the reference's
  double nats = 0;
  for (const auto& [prompt, whole] :
       std::vector<std::pair<std::string, std::string>>{{"the bird", "the bird sings"},
                                                        {"the bird", "the bird is ü"},
                                                        {"a fox", "a fox listens"}}) {
    const auto losses = losses_of(*made_.generator, whole);
    for (std::size_t i = prompt.size() - 1; i < losses.size(); ++i) nats += losses[i];
  }
  EXPECT_NEAR(found.nats, nats, 1e-3);
  EXPECT_NEAR(found.loss(), found.nats / 20, 1e-12);
  EXPECT_NEAR(found.bits_per_byte(), found.nats / std::log(2) / 19, 1e-12);
  const auto bad = [&](const nlohmann::json& line, const std::string& text) {
    try {
      reference_loss(*made_.generator, write("bad.jsonl", {line}), {}, ContinuationTokens::kJoint,
                     {}, true);
      ADD_FAILURE() << "expected an error";
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), HasSubstr(text));
    }
  };
  bad({{"prompt", "a"}, {"reference", ""}}, "got an empty string");
  bad({{"prompt", "a"}, {"reference", nlohmann::json::array()}}, "at least one reference");
  bad({{"prompt", "a"}, {"reference", 3}}, "expected a string, got a number");
  bad({{"prompt", "a"}}, "no field \"reference\"");
}

TEST_F(LikelihoodLoss, TheLastWordIsWhatFollowsTheLastBlank) {
  const auto texts = write("texts.jsonl", {{{"text", "the bird sings well"}}, {{"text", "a fox"}}});
  const auto whole = write("whole.jsonl", {{{"prompt", "the bird sings"}, {"reference", " well"}},
                                           {{"prompt", "a"}, {"reference", " fox"}}});
  const auto last =
      last_word_loss(*made_.generator, texts, "text", ContinuationTokens::kJoint, {}, true);
  const auto same =
      reference_loss(*made_.generator, whole, {}, ContinuationTokens::kJoint, {}, true);
  EXPECT_EQ(last.nats, same.nats);
  EXPECT_EQ(last.tokens, 9);
  EXPECT_EQ(last.greedy_share().share, same.greedy_share().share);
  for (const char* text : {"one", "ends ", " x", ""})
    EXPECT_THROW(last_word_loss(*made_.generator, write("bad.jsonl", {{{"text", text}}}), "text",
                                ContinuationTokens::kJoint, {}, true),
                 DataError)
        << text;
}

}  // namespace
}  // namespace rwkvx
