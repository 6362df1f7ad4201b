#include "rwkvx/generate/text_stream.h"

#include <gtest/gtest.h>

#include "rwkvx/base/utf8.h"

namespace rwkvx {
namespace {

std::string streamed(const std::string& bytes, const std::vector<std::string>& stops,
                     std::size_t piece) {
  TextStream stream(stops);
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += piece) {
    const auto part = stream.push(std::string_view(bytes).substr(i, piece));
    EXPECT_EQ(replace_invalid_utf8(part), part) << "a character was cut";
    out += part;
  }
  return out + stream.finish();
}

TEST(TextStream, GivesTheSameTextHoweverItsBytesArrive) {
  const std::string text = "Zürich 東京 🙂 fin";
  for (std::size_t piece = 1; piece < 9; ++piece) EXPECT_EQ(streamed(text, {}, piece), text);
}

TEST(TextStream, EndsBeforeAStopTextAcrossPieces) {
  for (std::size_t piece = 1; piece < 9; ++piece) {
    EXPECT_EQ(streamed("one two END three", {"END"}, piece), "one two ");
    EXPECT_EQ(streamed("aab aac", {"aac", "zz"}, piece), "aab ");
    EXPECT_EQ(streamed("E EN END", {"END"}, piece), "E EN ");
    EXPECT_EQ(streamed("xé東y", {"東"}, piece), "xé");
  }
}

TEST(TextStream, TakesTheEarliestOfSeveralStopTexts) {
  EXPECT_EQ(streamed("a, b. c", {".", ","}, 7), "a");
}

TEST(TextStream, ShowsWhatOnlyLookedLikeTheStartOfAStopText) {
  EXPECT_EQ(streamed("EN", {"END"}, 1), "EN");
}

TEST(TextStream, ReplacesInvalidBytesAndDropsAnUnfinishedCharacterAtTheEnd) {
  EXPECT_EQ(streamed("a\xff"
                     "b\xc3",
                     {}, 1),
            "a\xef\xbf\xbd"
            "b");
  EXPECT_EQ(replace_invalid_utf8("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(replace_invalid_utf8("\xf0\x9f\x99"), "\xef\xbf\xbd");
}

TEST(TextStream, IsTakenUpByAnotherWhereItStands) {
  const std::string text = "Zürich 東京 🙂 EN END three";
  for (std::size_t cut = 0; cut < text.size(); ++cut) {
    TextStream first({"END"}), second({"END"});
    auto out = first.push(std::string_view(text).substr(0, cut));
    EXPECT_EQ(first.stopped() ? "Zürich 東京 🙂 EN " : out + first.held(),
              first.stopped() ? out : text.substr(0, cut));
    second.restore(first.held());
    out += second.push(std::string_view(text).substr(cut));
    EXPECT_EQ(out, "Zürich 東京 🙂 EN ") << cut;
    EXPECT_TRUE(second.held().starts_with("END")) << second.held();
    EXPECT_EQ(second.finish(), "");
  }
}

TEST(TextStream, IgnoresEmptyStopTexts) { EXPECT_EQ(streamed("abc", {""}, 2), "abc"); }

}  // namespace
}  // namespace rwkvx
