// Pieces of a report: one HTML page that needs nothing beside itself.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace rwkvx {

// Text as HTML shows it, in elements and in quoted attributes. Ill-formed UTF-8 and control
// characters other than line ends and tabs become U+FFFD, so any bytes will do.
std::string escape_html(std::string_view text);

// A whole page: `body` is HTML, `title` is text. The style is inside, in light and dark; there are
// no scripts and no links. `head` is HTML that goes into the page's head after the style.
std::string html_page(std::string_view title, std::string_view body, std::string_view head = "");

// A plot of report/plot.h as a file of its own, in light colors.
std::string svg_file(std::string_view svg);

// A section with a heading; `body` is HTML.
std::string html_section(std::string_view heading, std::string_view body);

// A table. The first column is set to the left, the others to the right, or all to the left.
std::string html_table(const std::vector<std::string>& columns,
                       const std::vector<std::vector<std::string>>& rows, bool all_left = false);

}  // namespace rwkvx
