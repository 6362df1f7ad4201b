#include "rwkvx/study/borders.h"

#include <gtest/gtest.h>

#include <cctype>

#include "rwkvx/study/gates.h"
#include "rwkvx/study/names.h"

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

TEST(Names, AreWholeWordsFirstAndLater) {
  const auto found = name_mentions("Mira met Otto. Miranda saw Mira's hat.");
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].begin, 0);
  EXPECT_TRUE(found[0].first && found[1].first);
  EXPECT_EQ(found[2].begin, 27);
  EXPECT_EQ(found[2].end, 31);
  EXPECT_FALSE(found[2].first);
}

TEST(Names, ArePairedWithWordsOfAsManyLettersAndWithTheirFirstMention) {
  const std::string text = "Mira went home. Then Mira saw that Otto was back, and Mira left.";
  const auto pairs = matched_names(text, 64, 1);
  EXPECT_EQ(pairs.first.size(), 2u);
  EXPECT_EQ(pairs.later.size(), 2u);
  std::vector<std::int64_t> used;
  for (const auto* list : {&pairs.first, &pairs.later})
    for (const auto& [name, other] : *list) {
      EXPECT_FALSE(
          std::isalpha(static_cast<unsigned char>(text[static_cast<std::size_t>(other) + 1])));
      EXPECT_EQ(std::count(used.begin(), used.end(), other), 0);
      used.push_back(other);
    }
  ASSERT_EQ(pairs.again.size(), 1u);
  EXPECT_EQ(pairs.again[0], (std::pair<std::int64_t, std::int64_t>{24, 3}));
}

TEST(Names, OfAContinuationAreThePromptsOrOthers) {
  const auto counts = count_names("Mira and Otto met.", " Otto saw Vera, and Mira saw Ott. Ot");
  EXPECT_EQ(counts.known, 2);
  EXPECT_EQ(counts.others, 1);
  EXPECT_EQ(count_names("Mira", "Mira").known, 0) << "may be the beginning of Miranda";
}

TEST(Borders, TokensKnowTheirPlacesInTheText) {
  const auto placed = place_tokens(*make_byte_tokenizer(), "hello");
  EXPECT_EQ(placed.begins, (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(placed.at_byte(3), 3);
}

}  // namespace
}  // namespace rwkvx
