// Models of numbers, and of bytes without a document end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/generate/batch.h"
#include "support/random_model.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;

std::vector<nlohmann::json> lines_of(const std::filesystem::path& path) {
  std::vector<nlohmann::json> lines;
  const auto text = read_file(path);
  for (std::size_t begin = 0; begin < text.size(); begin = text.find('\n', begin) + 1)
    lines.push_back(nlohmann::json::parse(text.substr(begin, text.find('\n', begin) - begin)));
  return lines;
}

TEST(IdsModel, TakesAndWritesArrays) {
  RandomModel made([](const auto&) { return make_ids_tokenizer(50, 50); });
  BatchOptions options;
  options.input = made.folder / "in.jsonl";
  options.output = made.folder / "out.jsonl";
  options.quiet = true;
  write_file(options.input,
             "{\"id\": 1, \"prompt\": [1, 2, 3]}\n [4,5] \r\n{\"prompt\": \"1 2 3\"}\n");
  GenerateConfig config;
  config.max_new_tokens = 5;
  config.temperature = 0;
  EXPECT_EQ(generate_batch(*made.generator, config, options), 3);
  const auto lines = lines_of(options.output);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0]["prompt"], (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(lines[1]["prompt"], (std::vector<int>{4, 5}));
  for (const auto& line : lines)
    EXPECT_EQ(line["prediction"].size(),
              line["tokens"].get<std::size_t>() - (line["ended_by"] == "document" ? 1 : 0));
  EXPECT_EQ(lines[0]["prediction"], lines[2]["prediction"]);
  // An output is resumed whatever its prompts are.
  const auto whole = read_file(options.output);
  write_file(options.output, whole.substr(0, whole.find('\n') + 1));
  EXPECT_EQ(generate_batch(*made.generator, config, options), 3);
  EXPECT_EQ(read_file(options.output), whole);
}

TEST(IdsModel, RefusesPromptsThatAreNoIds) {
  RandomModel made([](const auto&) { return make_ids_tokenizer(50, 50); });
  GenerateConfig config;
  config.max_new_tokens = 1;
  EXPECT_THROW(made.generator->generate("1 two", config), DataError);
  EXPECT_THROW(made.generator->generate("51", config), DataError);
  EXPECT_EQ(made.generator->generate("1 2", config).prompt_tokens, 2);
}

TEST(BytesModel, NeedsNoDocumentEnd) {
  RandomModel made([](const auto&) { return make_byte_tokenizer(/*document_end=*/false); });
  ASSERT_EQ(made.config.vocab_size, 256);
  GenerateConfig config;
  config.max_new_tokens = 20;
  config.ignore_end = true;
  EXPECT_EQ(made.generator->generate("", config).tokens, 20);
  EXPECT_EQ(made.generator->generate("ab", config).prompt_tokens, 2);
  // The tokenizer "byte" stands for the right one.
  GeneratorOptions options;
  options.tokenizer = "byte";
  Generator named(made.folder / "model.safetensors", options);
  EXPECT_EQ(named.tokenizer().vocab_size(), 256);
  EXPECT_EQ(named.generate("ab", config).text, made.generator->generate("ab", config).text);
}

}  // namespace
}  // namespace rwkvx
