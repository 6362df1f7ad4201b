#include "rwkvx/base/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace rwkvx {
namespace {

TEST(Utf8, KnowsWholeCharacters) {
  EXPECT_EQ(utf8_character("a"), 1u);
  EXPECT_EQ(utf8_character("\xC3\xA9x"), 2u);
  EXPECT_EQ(utf8_character("\xE2\x96\x81"), 3u);
  EXPECT_EQ(utf8_character("\xF0\x9F\x98\x80"), 4u);
  EXPECT_EQ(utf8_character("\xF4\x8F\xBF\xBF"), 4u);
  for (const char* wrong :
       {"", "\x80", "\xC3", "\xC0\xAF", "\xC1\xBF", "\xE0\x80\xAF", "\xE2\x96", "\xED\xA0\x80",
        "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF"})
    EXPECT_EQ(utf8_character(wrong), 0u) << wrong;
}

TEST(Utf8, CountsEachBrokenSequenceOnce) {
  EXPECT_EQ(count_invalid_utf8(""), 0);
  EXPECT_EQ(count_invalid_utf8("na\xC3\xAFve \xF0\x9F\x98\x80"), 0);
  EXPECT_EQ(count_invalid_utf8("\xFF\xFE"), 2);
  EXPECT_EQ(count_invalid_utf8("\xF0\x9F\x98"), 1);
  EXPECT_EQ(count_invalid_utf8("\xF0\x9F\x98 \xC3("), 2);
  EXPECT_EQ(count_invalid_utf8("\xED\xA0\x80"), 3);
  // The example of the Unicode standard, table 3-8.
  EXPECT_EQ(count_invalid_utf8("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"), 6);
}

TEST(Utf8, CodePointsGiveTheSameBytesBack) {
  std::vector<std::uint32_t> codes;
  const std::string text = "a\xC3\xA9\xE2\x96\x81\xF0\x9F\x98\x80\xFF\xE2\x96z";
  decode_utf8(text, codes);
  EXPECT_EQ(codes, (std::vector<std::uint32_t>{'a', 0xE9, 0x2581, 0x1F600, kInvalidByte + 0xFF,
                                               kInvalidByte + 0xE2, kInvalidByte + 0x96, 'z'}));
  std::string again;
  for (const auto code : codes) append_utf8(code, again);
  EXPECT_EQ(again, text);
}

TEST(Utf8, HoldsBackOnlyWhatCanStillBecomeACharacter) {
  const std::string emoji = "\xF0\x9F\x98\x80";
  EXPECT_EQ(complete_utf8(""), 0u);
  EXPECT_EQ(complete_utf8("ab"), 2u);
  for (std::size_t cut = 1; cut < 4; ++cut)
    EXPECT_EQ(complete_utf8("ab" + emoji.substr(0, cut)), 2u);
  EXPECT_EQ(complete_utf8("ab" + emoji), 6u);
  EXPECT_EQ(complete_utf8("ab\xC3"), 2u);
  EXPECT_EQ(complete_utf8("ab\x80"), 3u);
  EXPECT_EQ(complete_utf8("ab\xFF"), 3u);
  EXPECT_EQ(complete_utf8("\xE0\x80"), 2u);  // no character starts like this
  EXPECT_EQ(complete_utf8("\x80\x80\x80\x80"), 4u);
}

}  // namespace
}  // namespace rwkvx
