#include "text/byte_trie.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

namespace rwkvx {
namespace {

ByteTrie trie_of(const std::map<std::string, std::uint32_t>& strings) {
  return ByteTrie(
      std::vector<std::pair<std::string_view, std::uint32_t>>(strings.begin(), strings.end()));
}

ByteTrie::Match slow_longest(const std::map<std::string, std::uint32_t>& strings,
                             const std::string& text) {
  ByteTrie::Match match;
  for (const auto& [string, value] : strings)
    if (text.starts_with(string) && string.size() > match.length) match = {value, string.size()};
  return match;
}

TEST(ByteTrie, FindsNothingWhereItHoldsNothing) {
  for (const ByteTrie& trie : {ByteTrie(), trie_of({})})
    for (int byte = 0; byte < 256; ++byte)
      EXPECT_EQ(trie.longest(std::string(3, static_cast<char>(byte))).value, 0u);
}

TEST(ByteTrie, FindsTheLongestOfAnyStrings) {
  std::mt19937 random(5);
  for (int round = 0; round < 60; ++round) {
    // Few letters make long common beginnings, many make wide nodes.
    const std::uint32_t letters = round % 3 == 0 ? 2 : round % 3 == 1 ? 7 : 256;
    const auto draw = [&](std::size_t longest) {
      std::string text(1 + random() % longest, ' ');
      for (char& byte : text) byte = static_cast<char>(random() % letters);
      return text;
    };
    std::map<std::string, std::uint32_t> strings;
    for (int i = 0; i < 300; ++i)
      strings[draw(1 + round % 9)] = 1 + random() % ByteTrie::kLargestValue;
    const auto trie = trie_of(strings);
    for (int i = 0; i < 300; ++i) {
      const auto text = draw(12);
      const auto found = trie.longest(text), wanted = slow_longest(strings, text);
      ASSERT_EQ(found.value, wanted.value);
      ASSERT_EQ(found.length, wanted.length);
    }
    EXPECT_EQ(trie.longest("").value, 0u);
  }
}

TEST(ByteTrie, HoldsStringsOfAnyLength) {
  const std::string longest(100'000, 'x');
  const auto trie = trie_of({{"x", 1}, {longest, 2}});
  EXPECT_EQ(trie.longest(longest).value, 2u);
  EXPECT_EQ(trie.longest(longest.substr(1)).length, 1u);
}

}  // namespace
}  // namespace rwkvx
