#include "rwkvx/generate/embed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

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
