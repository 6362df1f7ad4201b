#include "rwkvx/generate/embed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "generate/session.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/random_model.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;

const std::string kText = "the blue bird sings, 東京";

std::string long_text() {
  std::string text;
  for (int i = 0; i < 100; ++i) text += kText + std::to_string(i);
  return text;
}

// The rows that the head reads, (T, 16); language_model_test.cpp holds them to the modules.
std::vector<float> rows_of(const RandomModel& made, const std::string& text) {
  auto& model = *Generator::Impl::of(*made.generator).model;
  const auto state = model.start();
  std::vector<float> rows;
  model.prefill_features(made.generator->tokenizer().encode(text), *state,
                         [&](std::int64_t, std::span<const float> some) {
                           rows.insert(rows.end(), some.begin(), some.end());
                         });
  return rows;
}

TEST(Embed, PoolsTheRowsThatTheHeadReads) {
  const RandomModel made;
  for (const auto& text : {std::string("a"), kText, long_text()}) {
    const auto rows = rows_of(made, text);
    const auto T = text.size();
    const auto mean = embed(*made.generator, text, Pooling::kMean, false, "test");
    const auto last = embed(*made.generator, text, Pooling::kLast, false, "test");
    EXPECT_EQ(mean.tokens, static_cast<std::int64_t>(T));
    EXPECT_EQ(last.values, std::vector<float>(rows.end() - 16, rows.end()));
    for (std::size_t c = 0; c < 16; ++c) {
      double sum = 0;
      for (std::size_t t = 0; t < T; ++t) sum += static_cast<double>(rows[t * 16 + c]);
      EXPECT_NEAR(mean.values[c], sum / static_cast<double>(T), 1e-6);
    }
    const auto unit = embed(*made.generator, text, Pooling::kMean, true, "test");
    double squares = 0;
    for (const float value : unit.values) squares += static_cast<double>(value) * value;
    EXPECT_NEAR(squares, 1, 1e-6);
    EXPECT_NEAR(unit.values[3] * mean.values[5], unit.values[5] * mean.values[3], 1e-6);
  }
}

TEST(Embed, IsTheSameForEveryNumberOfThreads) {
  const RandomModel made;
  const auto one = embed(*made.generator, long_text(), Pooling::kMean, false, "test").values;
  const auto two = made.open(2);
  EXPECT_EQ(embed(*two, long_text(), Pooling::kMean, false, "test").values, one);
}

TEST(Embed, WritesJsonLinesAndMatrices) {
  const RandomModel made;
  write_file(made.folder / "in.jsonl", R"({"n":1.50,"say":"bird","more":[1,null]})"
                                       "\n\n"
                                       R"({"say":"東京"})"
                                       "\n");
  EmbedOptions options;
  options.input = made.folder / "in.jsonl";
  options.json_lines = true;
  options.field = "say";
  options.output = made.folder / "out.jsonl";
  options.quiet = true;
  EXPECT_EQ(embed_texts(*made.generator, options), 2);
  const auto text = read_file(options.output);
  EXPECT_EQ(text.rfind(R"({"n":1.50,"say":"bird","more":[1,null],"tokens":4,"embedding":[)", 0),
            0u);
  const auto wanted = embed(*made.generator, "東京", Pooling::kMean, false, "test").values;
  const auto second = nlohmann::json::parse(text.substr(text.find('\n') + 1));
  EXPECT_EQ(second["tokens"], 6);
  EXPECT_EQ(second["embedding"].get<std::vector<float>>(), wanted);  // every bit

  options.output = made.folder / "out.npy";
  EXPECT_EQ(embed_texts(*made.generator, options), 2);
  const auto bytes = read_file(options.output);
  ASSERT_EQ(bytes.size() % 64, 0u);  // rows of 16 floats
  std::vector<float> last(16);
  std::memcpy(last.data(), bytes.data() + bytes.size() - 64, 64);
  EXPECT_EQ(last, wanted);
  EXPECT_THAT(bytes, HasSubstr("'shape': (2, 16), }"));

  write_file(made.folder / "in.txt", "bird\r\nfox");
  options.input = made.folder / "in.txt";
  options.json_lines = false;
  options.output = made.folder / "plain.jsonl";
  EXPECT_EQ(embed_texts(*made.generator, options), 2);
  EXPECT_THAT(read_file(options.output), HasSubstr(R"({"text":"bird","tokens":4,)"));
}

TEST(Embed, RefusesWhatHasNoVectorBeforeWriting) {
  const RandomModel made;
  EmbedOptions options;
  options.input = made.folder / "in";
  options.output = made.folder / "out.npy";
  const auto refusal = [&](const std::string& text, bool json_lines) {
    write_file(options.input, text);
    options.json_lines = json_lines;
    try {
      embed_texts(*made.generator, options);
    } catch (const DataError& error) {
      EXPECT_FALSE(std::filesystem::exists(options.output));
      return std::string(error.what());
    }
    return std::string("none");
  };
  EXPECT_THAT(refusal("", false), HasSubstr("holds no texts"));
  EXPECT_THAT(refusal("a\n\nb\n", false), HasSubstr("in:2: is empty"));
  EXPECT_THAT(refusal("{\"text\":\"a\"}\n{\"text\":\"\"}\n", true), HasSubstr("in:2: is empty"));
  EXPECT_THAT(refusal("{\"txt\":\"a\"}\n", true), HasSubstr("in:1: has no field \"text\""));
  EXPECT_THAT(refusal("{\"text\":\"a\",\"embedding\":1}\n", true), HasSubstr("embedding"));
  EXPECT_THROW(embed(*made.generator, "", Pooling::kMean, false, "x"), DataError);
}

}  // namespace
}  // namespace rwkvx
