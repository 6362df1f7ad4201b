#include "rwkvx/metrics/diversity.h"

#include <gtest/gtest.h>

namespace rwkvx {
namespace {

Diversity of(const std::vector<std::string>& texts) {
  DiversityCounter counter({});
  for (const auto& text : texts) counter.add(text);
  return counter.result();
}

TEST(Diversity, IsTheDefinitionsByHand) {
  const auto found = of({"a b a b a b", "a b c d"});
  EXPECT_EQ(found.texts, 2u);
  EXPECT_EQ(found.tokens, 10u);
  EXPECT_DOUBLE_EQ(found.distinct[0], 4.0 / 10);
  EXPECT_DOUBLE_EQ(found.distinct[1], 4.0 / 8);  // ab ba bc cd
  EXPECT_DOUBLE_EQ(found.distinct[2], 4.0 / 6);  // aba bab abc bcd
  EXPECT_DOUBLE_EQ(found.distinct[3], 3.0 / 4);  // abab baba abcd
  EXPECT_DOUBLE_EQ(found.repetition, (1.0 / 3 + 0) / 2);
}

TEST(Diversity, EqualTextsHaveASelfBleuOf100AndUnrelatedOnesAlmostNone) {
  EXPECT_NEAR(of({"the cat sat on the mat", "the cat sat on the mat", "a b c d"}).self_bleu,
              200.0 / 3, 5);
  EXPECT_NEAR(of({"the cat sat on the mat", "the cat sat on the mat"}).self_bleu, 100, 1e-9);
  EXPECT_LT(of({"one two three four five", "six seven eight nine ten"}).self_bleu, 15);
}

TEST(Diversity, TextsWithoutTokensAreNoTrouble) {
  const auto found = of({"", "...", "\xff\xfe"});
  EXPECT_EQ(found.texts, 3u);
  EXPECT_EQ(found.tokens, 0u);
  EXPECT_EQ(found.distinct[0], 0);
  EXPECT_EQ(found.repetition, 0);
  EXPECT_EQ(of({}).texts, 0u);
}

}  // namespace
}  // namespace rwkvx
