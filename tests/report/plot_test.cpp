#include "rwkvx/report/plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "rwkvx/base/utf8.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Plot, TicksCoverTheRangeInRoundSteps) {
  EXPECT_EQ(plot_ticks(0, 10), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  const auto ticks = plot_ticks(-0.013, 0.041);
  EXPECT_LE(ticks.front(), -0.013);
  EXPECT_GE(ticks.back(), 0.041);
  EXPECT_GE(plot_ticks(3, 3).size(), 2U);
  EXPECT_GE(plot_ticks(0, 0).size(), 2U);
}

// The x of each text that starts with `text`, in the order of the page.
std::vector<double> places_of(const std::string& svg, const std::string& text) {
  std::vector<double> places;
  for (auto at = svg.find(">" + text); at != std::string::npos; at = svg.find(">" + text, at + 1)) {
    const auto x = svg.rfind(" x=\"", at);
    places.push_back(std::stod(svg.substr(x + 4)));
  }
  return places;
}

TEST(Plot, LabelsAreNeverWiderThanTheirRoom) {
  const std::string path = "runs/enhanced-with-a-long-name/predictions-of-the-test-set";
  const std::string wide(40, 'W'), chinese = [] {
    std::string text;
    for (int i = 0; i < 60; ++i) text += "\u6a21";
    return text;
  }();
  for (const auto& label : {path + ".jsonl", path + "-2.jsonl", wide, chinese}) {
    for (const auto& svg : {svg_bars({"t", "x", ""}, {{label, 1, 0, 2}}),
                            svg_intervals({"t", "x", ""}, {{label, 1, 0, 2}})}) {
      const auto shown = svg.find("…");
      ASSERT_NE(shown, std::string::npos) << svg;
      EXPECT_THAT(svg, HasSubstr("<title>" + label + "</title>"));  // whole for who points at it
      // Both ends are there: names often differ in one only.
      EXPECT_THAT(svg, HasSubstr(label.substr(0, 6)));
      EXPECT_THAT(svg, HasSubstr(label.substr(label.size() - 6) + "<title>"));
      EXPECT_EQ(replace_invalid_utf8(svg), svg);
      // The text ends at its x and takes at most 13 pixels for each wide character.
      const auto begin = svg.rfind('>', shown) + 1;
      const auto text = svg.substr(begin, svg.find('<', begin) - begin);
      std::size_t narrow = 0, large = 0;
      for (const unsigned char byte : text) byte < 0x80 ? ++narrow : large += (byte & 0xC0) != 0x80;
      EXPECT_LE(5.5 * static_cast<double>(narrow) + 12 * static_cast<double>(large - 1), 270);
    }
  }
  const auto two = svg_bars({"t", "x", ""}, {{"short", 1, 0, 2}, {"also short", 1, 0, 2}});
  EXPECT_THAT(two, Not(HasSubstr("…")));
  EXPECT_THAT(two, Not(HasSubstr("<title>")));
}

TEST(Plot, NamesInAKeyDoNotLieOverEachOther) {
  std::vector<PlotLine> lines;
  for (int i = 0; i < 7; ++i)
    lines.push_back(
        {"name-" + std::to_string(i) + std::string(static_cast<std::size_t>(9 * i), 'x'),
         {{1, 1, 0, 0}, {2, 2, 0, 0}}});
  const auto svg = svg_lines({"t", "x", "y"}, lines);
  const auto x = places_of(svg, "name-");
  ASSERT_EQ(x.size(), lines.size());
  for (std::size_t i = 1; i < x.size(); ++i)
    if (x[i] > x[i - 1]) {  // in one row: a letter takes about 6 pixels
      EXPECT_GE(x[i] - x[i - 1], 6.2 * static_cast<double>(lines[i - 1].name.size())) << i;
    }
  for (std::size_t i = 0; i < x.size(); ++i)
    EXPECT_LE(x[i] + 6.2 * static_cast<double>(std::min<std::size_t>(lines[i].name.size(), 90)),
              720);
}

TEST(Plot, PlotsLeaveOutWhatIsNotFinite) {
  const double nan = std::nan("");
  const auto bars = svg_bars({"t", "x", ""}, {{"a", nan, 0, 0}, {"b", -1, -2, 0.5}});
  EXPECT_THAT(bars, Not(HasSubstr("nan")));
  const auto lines =
      svg_lines({"t", "x", "y", true}, {{"a", {{0, 1, 0, 0}, {1, nan, 0, 0}, {8, 2, 1, 3}}}});
  EXPECT_THAT(lines, Not(AnyOf(HasSubstr("nan"), HasSubstr("inf"))));
  EXPECT_THAT(svg_lines({"t", "x", "y"}, {{"a", {}}}), HasSubstr("no points"));
}

}  // namespace
}  // namespace rwkvx
