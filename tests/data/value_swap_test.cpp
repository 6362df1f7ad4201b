#include "data/value_swap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace rwkvx {
namespace {

using testing::HasSubstr;
using testing::Not;

class ValueSwaps : public testing::Test {
 protected:
  ValueSwaps() : swap_("[", "]", 1.0) {
    swap_.collect("Visitors praise a riverside garden, où l'été dure; 東京 is far.");
    swap_.finish();
  }
  // What stands between the marks.
  static std::string value(const std::string& prompt, std::size_t number = 0) {
    std::size_t at = 0;
    for (std::size_t i = 0; i <= number; ++i) at = prompt.find('[', at) + 1;
    return prompt.substr(at, prompt.find(']', at) - at);
  }
  ValueSwap swap_;
};

TEST_F(ValueSwaps, PromptAndResponseGetTheSameNewValue) {
  for (std::uint64_t key = 0; key < 200; ++key) {
    const auto pair = swap_.swapped("name[Blue Spice], area[city]",
                                    "Blue Spice is in the city; go to Blue Spice.", key);
    ASSERT_TRUE(pair);
    const auto name = value(pair->prompt), area = value(pair->prompt, 1);
    EXPECT_NE(name, "Blue Spice");
    EXPECT_EQ(pair->response, name + " is in the " + area + "; go to " + name + ".");
    EXPECT_TRUE(name[0] >= 'A' && name[0] <= 'Z' ? true
                                                 : static_cast<unsigned char>(name[0]) >= 0x80)
        << name;
  }
}

TEST_F(ValueSwaps, WhatTheResponseDoesNotHoldAsWordsStays) {
  EXPECT_FALSE(swap_.swapped("price[high]", "a highly priced place", 1)) << "part of a word";
  EXPECT_FALSE(swap_.swapped("price[high]", "a cheap place", 1));
  EXPECT_FALSE(swap_.swapped("price[]", "a cheap place", 1));
  EXPECT_FALSE(swap_.swapped("price[high", "a high place", 1)) << "no end";
  EXPECT_FALSE(swap_.swapped("no marks", "no marks", 1));
  const auto pair = swap_.swapped("price[high], name[Aromi]", "Aromi is highly priced", 1);
  ASSERT_TRUE(pair);
  EXPECT_THAT(pair->prompt, HasSubstr("price[high]"));
  EXPECT_THAT(pair->response, HasSubstr("highly priced"));
}

TEST_F(ValueSwaps, AValueWithinALongerOneIsNotTakenForIt) {
  const auto pair = swap_.swapped("name[Blue Spice], near[Spice]", "Blue Spice is near Spice.", 3);
  ASSERT_TRUE(pair);
  EXPECT_EQ(pair->response, value(pair->prompt) + " is near " + value(pair->prompt, 1) + ".");
}

TEST_F(ValueSwaps, AKeyAlwaysGivesTheSame) {
  std::set<std::string> all;
  for (std::uint64_t key = 0; key < 50; ++key) {
    const auto one = swap_.swapped("[Aromi]", "Aromi", key),
               again = swap_.swapped("[Aromi]", "Aromi", key);
    EXPECT_EQ(one->prompt, again->prompt);
    all.insert(one->response);
  }
  EXPECT_GT(all.size(), 30u);
}

TEST_F(ValueSwaps, MadeUpWordsAreWholeUtf8) {
  ValueSwap swap("[", "]", 1.0);
  swap.collect("été 東京都 où");
  swap.finish();
  for (std::uint64_t key = 0; key < 100; ++key) {
    const auto text = swap.swapped("[Aromi]", "Aromi", key)->response;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      const auto more = byte >= 0xF0 ? 3u : byte >= 0xE0 ? 2u : byte >= 0xC0 ? 1u : 0u;
      ASSERT_TRUE(byte < 0x80 || byte >= 0xC0) << text;
      for (unsigned j = 0; j < more; ++j)
        ASSERT_EQ(static_cast<unsigned char>(text[++i]) & 0xC0, 0x80) << text;
    }
  }
}

TEST(ValueSwap, NoWordsNoValues) {
  ValueSwap swap("[", "]", 1.0);
  swap.finish();
  EXPECT_FALSE(swap.swapped("[Aromi]", "Aromi", 1));
}

}  // namespace
}  // namespace rwkvx
