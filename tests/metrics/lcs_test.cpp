#include "rwkvx/metrics/lcs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace rwkvx {
namespace {

using Tokens = std::vector<std::uint32_t>;

struct Walk {
  std::size_t length = 0;
  std::vector<char> taken;
};

// The table and the walk back over it, as LcsMatcher::mark() describes them.
Walk table_walk(const Tokens& pattern, const Tokens& text) {
  std::vector<std::vector<std::size_t>> t(pattern.size() + 1,
                                          std::vector<std::size_t>(text.size() + 1, 0));
  for (std::size_t i = 1; i <= pattern.size(); ++i)
    for (std::size_t j = 1; j <= text.size(); ++j)
      t[i][j] =
          pattern[i - 1] == text[j - 1] ? t[i - 1][j - 1] + 1 : std::max(t[i - 1][j], t[i][j - 1]);
  Walk walk{t[pattern.size()][text.size()], std::vector<char>(pattern.size(), 0)};
  for (std::size_t i = pattern.size(), j = text.size(); i > 0 && j > 0;) {
    if (pattern[i - 1] == text[j - 1])
      --j, walk.taken[--i] = 1;
    else if (t[i][j - 1] > t[i - 1][j])
      --j;
    else
      --i;
  }
  return walk;
}

Tokens draw(std::mt19937& random, std::size_t length, std::uint32_t vocabulary) {
  Tokens tokens(length);
  // Squared so that low tokens are common and high ones rare.
  for (auto& token : tokens) token = (random() % vocabulary) * (random() % vocabulary) / vocabulary;
  return tokens;
}

// Around the edges of machine words, and where tokens are kept as pieces.
TEST(Lcs, EqualsTheTableForAllLengthsAroundMachineWords) {
  std::mt19937 random(3);
  LcsMatcher matcher, frugal(/*kept_words=*/1);
  for (const std::size_t length :
       {0, 1, 2, 63, 64, 65, 127, 128, 129, 192, 193, 255, 256, 257, 320, 700})
    for (const std::uint32_t vocabulary : {1U, 2U, 5U, 40U, 900U}) {
      const auto pattern = draw(random, length, vocabulary);
      auto text = draw(random, random() % 400, vocabulary);
      const auto walk = table_walk(pattern, text);
      ASSERT_EQ(matcher.length(pattern, text, vocabulary), walk.length) << length;
      ASSERT_EQ(matcher.length(text, pattern, vocabulary), walk.length) << length;
      for (auto* marker : {&matcher, &frugal}) {
        std::vector<char> taken(pattern.size(), 0);
        marker->set_pattern(pattern, vocabulary);
        ASSERT_EQ(marker->mark(text, taken), walk.length) << length;
        ASSERT_EQ(taken, walk.taken) << length << " with a vocabulary of " << vocabulary;
      }
    }
}

TEST(Lcs, TextTokensThatNoPatternHasOnlyTurnTheWalk) {
  LcsMatcher matcher;
  const Tokens pattern = {0, 1, 0};
  const Tokens text = {0, LcsMatcher::kNowhere, 1, LcsMatcher::kNowhere};
  const auto walk = table_walk(pattern, text);
  std::vector<char> taken(3, 0);
  matcher.set_pattern(pattern, 2);
  EXPECT_EQ(matcher.mark(text, taken), 2U);
  EXPECT_EQ(taken, walk.taken);
}

TEST(Lcs, SharedBeginningsAndEndsCount) {
  LcsMatcher matcher;
  EXPECT_EQ(matcher.length(Tokens{0, 1, 2}, Tokens{0, 1, 2}, 3), 3U);
  EXPECT_EQ(matcher.length(Tokens{0, 1, 0}, Tokens{0, 0}, 2), 2U);
  EXPECT_EQ(matcher.length(Tokens{0, 0}, Tokens{0, 0, 0}, 1), 2U);
  EXPECT_EQ(matcher.length(Tokens{0, 2, 1}, Tokens{0, 1, 2, 1}, 3), 3U);
}

}  // namespace
}  // namespace rwkvx
