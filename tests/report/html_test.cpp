#include "rwkvx/report/html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "rwkvx/report/plot.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Html, EscapesWhateverATextHolds) {
  EXPECT_EQ(escape_html("<script>'a' & \"b\"</script>\n"),
            "&lt;script&gt;&#39;a&#39; &amp; &quot;b&quot;&lt;/script&gt;\n");
  EXPECT_EQ(escape_html(std::string_view("a\0\x1b\xff z", 6)), "a\ufffd\ufffd\ufffd z");
  const std::string evil = "</title><script>alert(1)</script>";
  const auto page =
      html_page(evil, html_section(evil, html_table({evil}, {{evil}})) +
                          svg_bars({evil, evil, evil}, {{evil, 1, 0, 2}}) +
                          svg_lines({evil, evil, evil}, {{evil, {{1, 1, 0, 2}, {2, 1, 0, 2}}}}));
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, Not(HasSubstr("http")));
}

TEST(Html, LettersStayReadableOnANarrowScreen) {
  const auto page = html_page("t", svg_bars({"t", "x", ""}, {{"a", 1, 0, 2}}));
  // 12 pixels of 720 are 11.2 at the least width; the frame around the plot scrolls.
  EXPECT_THAT(page, HasSubstr("svg{display:block;min-width:672px;"));
  EXPECT_THAT(page, HasSubstr("<div class=\"wide\"><svg "));
  const auto file = svg_file(svg_bars({"t", "x", ""}, {{"a", 1, 0, 2}}));
  EXPECT_TRUE(file.starts_with("<svg xmlns="));
  EXPECT_TRUE(file.ends_with("</svg>"));
}

}  // namespace
}  // namespace rwkvx
