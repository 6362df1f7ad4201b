#include "rwkvx/data/prompt_pairs.h"

#include <gtest/gtest.h>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

std::string numbered_words(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += std::to_string(i) + (i % 7 == 6 ? "\n" : " ");
  return text;
}

TEST(PromptPairs, AreCutFromTheValidationPartWordByWord) {
  const ScratchDirectory folder;
  write_file(folder / "text.txt", numbered_words(1000));
  DataConfig data;
  data.train = {(folder / "text.txt").string()};
  data.valid_fraction = 0.5;
  const auto pairs = cut_pairs(data, {4, 6, 3});
  ASSERT_EQ(pairs.size(), 4u);
  for (const auto& pair : pairs) {
    EXPECT_GE(std::stoi(pair.prompt), 480);
    EXPECT_EQ(std::stoi(pair.reference), std::stoi(pair.prompt) + 6);
    EXPECT_TRUE(pair.prompt.ends_with(' ') || pair.prompt.ends_with('\n'));
    EXPECT_FALSE(pair.reference.ends_with(' ') || pair.reference.ends_with('\n'));
  }
}

TEST(PromptPairs, ATextTooShortIsRefused) {
  const ScratchDirectory folder;
  write_file(folder / "text.txt", numbered_words(30));
  DataConfig data;
  data.train = {(folder / "text.txt").string()};
  EXPECT_THROW(cut_pairs(data, {4, 20, 20}), DataError);
}

}  // namespace
}  // namespace rwkvx
