#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "rwkvx/eval/report_html.h"
#include "rwkvx/eval/report_plot.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Report, EscapesWhateverATextHolds) {
  EXPECT_EQ(escape_html("<script>'a' & \"b\"</script>\n"),
            "&lt;script&gt;&#39;a&#39; &amp; &quot;b&quot;&lt;/script&gt;\n");
  EXPECT_EQ(escape_html(std::string_view("a\0\x1b\xff z", 6)), "a\ufffd\ufffd\ufffd z");
  const std::string evil = "</title><script>alert(1)</script>";
  const auto page =
      html_page(evil, html_section(evil, html_table({evil}, {{evil}})) +
                          html_side_by_side(evil, evil, evil, evil) +
                          svg_bars({evil, evil, evil}, {{evil, 1, 0, 2}}) +
                          svg_lines({evil, evil, evil}, {{evil, {{1, 1, 0, 2}, {2, 1, 0, 2}}}}));
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, Not(HasSubstr("http")));
}

TEST(Report, MarksTheLongestCommonSubsequenceOnBothSides) {
  const auto html = html_side_by_side("r", "The cat sat, still.", "p", "A CAT then still");
  EXPECT_THAT(html, HasSubstr("The <mark>cat</mark> sat, <mark>still</mark>."));
  EXPECT_THAT(html, HasSubstr("A <mark>CAT</mark> then <mark>still</mark>"));
  EXPECT_THAT(html_side_by_side("r", "a b", "p", "a b", /*most_words=*/1),
              Not(HasSubstr("<mark>")));
}

TEST(Report, TicksCoverTheRangeInRoundSteps) {
  EXPECT_EQ(plot_ticks(0, 10), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  const auto ticks = plot_ticks(-0.013, 0.041);
  EXPECT_LE(ticks.front(), -0.013);
  EXPECT_GE(ticks.back(), 0.041);
  EXPECT_GE(plot_ticks(3, 3).size(), 2U);
  EXPECT_GE(plot_ticks(0, 0).size(), 2U);
}

TEST(Report, PlotsLeaveOutWhatIsNotFinite) {
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
