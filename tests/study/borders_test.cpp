#include "rwkvx/study/borders.h"

#include <gtest/gtest.h>

#include "rwkvx/study/gates.h"

namespace rwkvx {
namespace {

std::vector<std::int64_t> ends(std::string_view text, Boundary::Kind kind) {
  std::vector<std::int64_t> found;
  for (const auto& one : natural_boundaries(text))
    if (one.kind == kind) found.push_back(one.offset);
  return found;
}

TEST(Borders, AreWherePunctuationAndWhiteSpacePutThem) {
  const std::string_view text = "He came, saw. \"Yes!\" she\n\nEnd";
  EXPECT_EQ(ends(text, Boundary::Kind::kWord), (std::vector<std::int64_t>{2, 8, 13, 20, 24, 29}));
  EXPECT_EQ(ends(text, Boundary::Kind::kPhrase), (std::vector<std::int64_t>{8, 13, 20, 24, 29}));
  EXPECT_EQ(ends(text, Boundary::Kind::kSentence), (std::vector<std::int64_t>{13, 20, 24, 29}));
  EXPECT_EQ(ends(text, Boundary::Kind::kParagraph), (std::vector<std::int64_t>{24, 29}));
  EXPECT_TRUE(natural_boundaries("").empty());
}

TEST(Borders, LevelsStandAtTheByteBehindAnEnd) {
  const std::string_view text = "a b. c";
  const auto levels = border_levels(text, natural_boundaries(text));
  EXPECT_EQ(levels, (std::vector<std::uint8_t>{0, 1, 0, 0, 3, 0}));
}

TEST(Borders, PartnersLieInsideWordsOrAtPlainWordEndsAndAreUsedOnce) {
  const std::string text =
      "the cats slept there, and others walked away. Nobody noticed them at all.";
  const auto levels = border_levels(text, natural_boundaries(text));
  for (const int level : {1, 2, 3}) {
    std::vector<std::int64_t> used;
    for (const auto& [end, inside] : matched_positions(text, levels, level, 64, 1)) {
      EXPECT_EQ(levels[static_cast<std::size_t>(end)], level);
      EXPECT_EQ(levels[static_cast<std::size_t>(inside)], level > 1 ? 1 : 0);
      EXPECT_LE(std::abs(end - inside), 64);
      EXPECT_EQ(std::count(used.begin(), used.end(), inside), 0);
      used.push_back(inside);
    }
    EXPECT_FALSE(used.empty()) << level;
  }
}

TEST(Borders, TokensKnowTheirPlacesInTheText) {
  const auto placed = place_tokens(*make_byte_tokenizer(), "hello");
  EXPECT_EQ(placed.begins, (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(placed.at_byte(3), 3);
}

}  // namespace
}  // namespace rwkvx
