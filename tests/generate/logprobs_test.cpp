// Log probabilities of prompts and alternatives, bans and biases.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/generate/generator.h"
#include "rwkvx/generate/sampler.h"
#include "support/random_model.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;

std::vector<TokenId> ids_of(const std::vector<TokenLogprob>& top) {
  std::vector<TokenId> ids;
  for (const auto& one : top) ids.push_back(one.token);
  return ids;
}

template <class Run>
std::string refusal(const Run& run) {
  try {
    run();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "none";
}

TEST(TopLogProbabilities, AreOrderedByProbabilityThenById) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> logits = {1, 3, 3, -inf, 2, NAN, 9};
  const std::vector<float> finite = {1, 3, 3, -inf, 2, 0, 9};
  EXPECT_EQ(ids_of(top_log_probabilities(finite, 7, 4)), (std::vector<TokenId>{6, 1, 2, 4}));
  EXPECT_EQ(ids_of(top_log_probabilities(finite, 6, 4)), (std::vector<TokenId>{1, 2, 4, 0}));
  EXPECT_EQ(ids_of(top_log_probabilities(finite, 7, 100)),
            (std::vector<TokenId>{6, 1, 2, 4, 0, 5}));
  EXPECT_TRUE(top_log_probabilities(finite, 7, 0).empty());
  EXPECT_LE(top_log_probabilities(logits, 7, 100).size(), 5u);
  double sum = 0;
  for (const auto& one : top_log_probabilities(finite, 7, 100)) {
    EXPECT_EQ(one.logprob, log_probability(finite, one.token));
    sum += std::exp(one.logprob);
  }
  EXPECT_NEAR(sum, 1, 1e-12);
}

// The tokens of a prompt with their log probabilities, and what is drawn after it.
struct Fed {
  std::vector<PromptToken> tokens;
  std::vector<std::vector<TokenLogprob>> tops;
  std::string text, drawn;
};

Fed feed(Generator& generator, const std::string& prompt, bool show, std::int64_t top,
         bool after_document = false) {
  Fed fed;
  Session session(generator);
  if (after_document) session.feed("");
  session.feed(prompt,
               show ? ShowPromptToken([&](const PromptToken& one) {
                 fed.tokens.push_back(one);
                 fed.text += one.text;
                 fed.tops.emplace_back(one.top.begin(), one.top.end());
               })
                    : ShowPromptToken(),
               top);
  GenerateConfig config;
  config.max_new_tokens = 20;
  fed.drawn = session.draw(config).text;
  return fed;
}

TEST(PromptLogprobs, AreThoseOfTheModelAndChangeNoText) {
  const RandomModel made;
  std::string prompt;  // several pieces, an incomplete one last
  for (int i = 0; i < 90; ++i) prompt += "bird " + std::to_string(i * i) + " 東京; ";
  ASSERT_GT(prompt.size(), 1024u);
  const auto with = feed(*made.generator, prompt, true, 3);
  EXPECT_EQ(with.drawn, feed(*made.generator, prompt, false, 0).drawn);
  EXPECT_EQ(with.text, prompt);
  ASSERT_EQ(with.tokens.size(), prompt.size());
  EXPECT_FALSE(with.tokens[0].logprob);
  EXPECT_TRUE(with.tops[0].empty());
  for (std::size_t i = 1; i < prompt.size(); ++i) {
    ASSERT_TRUE(with.tokens[i].logprob) << i;
    ASSERT_EQ(with.tops[i].size(), 3u);
    for (const auto& one : with.tops[i])
      if (one.token == with.tokens[i].token) {
        EXPECT_EQ(one.logprob, *with.tokens[i].logprob);
      }
  }
  // With other threads, bit for bit.
  const auto two = made.open(2);
  const auto again = feed(*two, prompt, true, 3);
  for (std::size_t i = 1; i < prompt.size(); ++i)
    ASSERT_EQ(*again.tokens[i].logprob, *with.tokens[i].logprob) << i;
  EXPECT_EQ(again.drawn, with.drawn);
}

TEST(PromptLogprobs, AfterADocumentsEndAreTheLossesOfEval) {
  const RandomModel made;
  const std::string prompt = "the fox listens, quietly";
  const auto fed = feed(*made.generator, prompt, true, 0, /*after_document=*/true);
  auto ids = made.generator->tokenizer().encode(prompt);
  std::vector<double> losses;
  bool asked = false;
  made.generator->losses(
      [&](std::int64_t) { return std::exchange(asked, true) ? std::vector<TokenId>() : ids; },
      [&](const std::vector<double>& some) { losses = some; });
  ASSERT_EQ(losses.size(), fed.tokens.size());
  for (std::size_t i = 0; i < losses.size(); ++i) {
    ASSERT_TRUE(fed.tokens[i].logprob) << i;
    EXPECT_NEAR(*fed.tokens[i].logprob, -losses[i], 1e-5) << i;
  }
}

TEST(TopLogprobs, HoldTheDrawnTokenAndDoNotDependOnTheBatch) {
  const RandomModel made;
  GenerateConfig config;
  config.max_new_tokens = 12;
  config.ignore_end = true;
  const std::int64_t V = made.generator->tokenizer().vocab_size();
  const auto record = [](std::vector<double>& to, const DrawnToken& one, std::int64_t size) {
    ASSERT_EQ(static_cast<std::int64_t>(one.top.size()), size);
    for (const auto& other : one.top) {
      to.push_back(other.logprob);
      if (other.token == one.token) {
        EXPECT_EQ(other.logprob, one.logprob);
      }
    }
  };
  std::vector<double> alone;
  Session session(*made.generator);
  session.feed("bird");
  session.draw(config,
               [&](const DrawnToken& one) {
                 record(alone, one, V);
                 return true;
               },
               {.top_logprobs = 1000});
  std::vector<std::string> prompts = {"fox", "bird"};  // the second's sequence is that of `alone`
  std::size_t next = 0;
  std::vector<double> beside;
  made.generator->generate_many(
      4, config,
      [&]() -> std::optional<Generator::Request> {
        if (next == prompts.size()) return std::nullopt;
        return Generator::Request{prompts[next++], 0};
      },
      [](std::int64_t, std::int64_t, const Continuation&) {},
      [&](std::int64_t request, std::int64_t, const DrawnToken& one) {
        if (request == 1) record(beside, one, V);
      },
      1000);
  EXPECT_EQ(beside, alone);
}

TEST(Bias, IsAddedBeforeTheSamplers) {
  const std::vector<float> logits = {0.5f, 2.0f, -1.0f, 1.0f};
  GenerateConfig config;
  config.temperature = 0;
  config.bias = {"2=3.5"};
  EXPECT_EQ(Sampler(config).draw(logits), 2);
  config.bias = {"2=3.5", "2=0.5"};  // the last counts
  EXPECT_EQ(Sampler(config).draw(logits), 1);
  config.bias = {"1=-1e6"};
  EXPECT_EQ(Sampler(config).draw(logits), 3);
  config.top_k = 1;  // of the biased logits
  config.temperature = 1;
  config.bias = {"0=+1000000"};
  EXPECT_EQ(Sampler(config).draw(logits), 0);
}

TEST(Bias, AndBansOfNonsenseAreRefused) {
  const auto with = [](std::vector<std::string> ban_id, std::vector<std::string> bias) {
    GenerateConfig config;
    config.ban_id = std::move(ban_id);
    config.bias = std::move(bias);
    return refusal([&] { config.check(""); });
  };
  EXPECT_EQ(with({"5", "0"}, {"5=-1.5", "6=-inf", "7=1e3", "8=+2"}), "none");
  for (const std::string text : {"", "x", "-1", "1.5", "5 ", "99999999999"})
    EXPECT_EQ(with({text}, {}),
              "ban_id: expected a token id, a whole number from 0, got \"" + text + "\"");
  for (const std::string text :
       {"", "5", "=1", "x=1", "5=", "5=x", "5=nan", "5=1e7", "5=1=2", "-5=1", "5=+-1"})
    EXPECT_THAT(with({}, {text}), HasSubstr("got \"" + text + "\"")) << text;
  EXPECT_THAT(with({}, {"5=inf"}), HasSubstr("use prefix"));
}

TEST(Bans, HoldForEveryWayToGenerate) {
  const RandomModel made;
  auto& generator = *made.generator;
  GenerateConfig config;
  config.max_new_tokens = 300;
  config.ban_id = {"101"};
  config.bias = {"102=-inf"};
  config.ban_text = {"g"};
  config.ignore_end = true;
  const auto sound = [](const Continuation& one) {
    EXPECT_EQ(one.text.find_first_of("efg"), std::string::npos);
    EXPECT_EQ(one.ended_by, "length");
  };
  sound(generator.generate("bird", config));
  std::optional<Generator::Request> request{{"bird", 0, 3}};
  generator.generate_many(
      2, config, [&] { return std::exchange(request, std::nullopt); },
      [&](std::int64_t, std::int64_t, const Continuation& one) { sound(one); });
}

TEST(Bans, AreCheckedAgainstTheVocabulary) {
  const RandomModel made;
  const auto with = [&](const GenerateConfig& config) {
    return refusal([&] { made.generator->check(config); });
  };
  GenerateConfig config;
  config.ban_id = {"256"};
  EXPECT_EQ(with(config), "none");
  config.ban_id = {"257"};
  EXPECT_THAT(with(config), HasSubstr("ban_id: expected a token id from 0 to 256, got 257"));
  config.ban_id.clear();
  config.bias = {"300=1"};
  EXPECT_THAT(with(config), HasSubstr("bias: expected a token id from 0 to 256, got 300"));
  config.bias.clear();
  for (int id = 0; id < 256; ++id) config.ban_id.push_back(std::to_string(id));
  EXPECT_EQ(with(config), "none");  // the end is left
  config.ignore_end = true;
  EXPECT_THAT(with(config), HasSubstr("ban_id: expected at least one token that may be drawn"));
  EXPECT_THAT(refusal([&] { made.generator->generate("a", config); }), HasSubstr("ban_id"));
}

}  // namespace
}  // namespace rwkvx
