#include "rwkvx/metrics/porter.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "support/golden.h"

namespace rwkvx {
namespace {

void expect_golden_stems(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::size_t words = 0, wrong = 0;
  while (std::getline(file, line)) {
    const auto tab = line.find('\t');
    ASSERT_NE(tab, std::string::npos) << "line " << words + 1;
    const auto word = line.substr(0, tab), wanted = line.substr(tab + 1);
    // The scorers leave words of up to three letters alone, and so does the table.
    const auto stem = word.size() > 3 ? porter_stem(word) : word;
    if (stem != wanted && ++wrong <= 20) ADD_FAILURE() << word << ": " << stem << ", " << wanted;
    ++words;
  }
  EXPECT_EQ(wrong, 0U);
  EXPECT_GT(words, 0U);
}

TEST(Porter, StemsEveryGoldenWordExactly) {
  RWKVX_FOR_EACH_GOLDEN("stem") expect_golden_stems(golden / "porter.tsv");
}

TEST(Porter, KeepsShortAndIrregularWords) {
  EXPECT_EQ(porter_stem(""), "");
  EXPECT_EQ(porter_stem("is"), "is");
  EXPECT_EQ(porter_stem("sky"), "sky");
  EXPECT_EQ(porter_stem("skies"), "sky");
  EXPECT_EQ(porter_stem("news"), "news");
}

TEST(Porter, FollowsThePublishedSteps) {
  EXPECT_EQ(porter_stem("caresses"), "caress");
  EXPECT_EQ(porter_stem("ponies"), "poni");
  EXPECT_EQ(porter_stem("dies"), "die");
  EXPECT_EQ(porter_stem("hopping"), "hop");
  EXPECT_EQ(porter_stem("falling"), "fall");
  EXPECT_EQ(porter_stem("relational"), "relat");
  EXPECT_EQ(porter_stem("hopefulness"), "hope");
  EXPECT_EQ(porter_stem("controlling"), "control");
}

// A y is a vowel or not by the y before it, which must not take time quadratic in their number.
TEST(Porter, TakesVeryLongWords) {
  std::string word(3000, 'y');
  word += "ing";
  EXPECT_LE(porter_stem(word).size(), word.size());
}

}  // namespace
}  // namespace rwkvx
