// A table of results as text of several kinds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rwkvx {

enum class TableFormat { kPlain, kCsv, kMarkdown, kLatex };
// "plain", "csv", "markdown", "latex"; nothing for other names.
std::optional<TableFormat> table_format(std::string_view name);

struct ResultTable {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;
  std::string note;    // one line, such as the signature; not in CSV
  bool texts = false;  // set all columns to the left, not the first one alone
};

// Cells are escaped as the format needs it: RFC 4180 for CSV; pipes and line ends for Markdown;
// LaTeX gets a tabular with the note as a comment. Ends with a line end.
std::string format_table(const ResultTable& table, TableFormat format);

// A number with `digits` digits after the decimal point; "–" for one that is not finite.
std::string fixed_text(double value, int digits);
// A count; "–" where there is none.
std::string count_or_dash(const std::optional<std::int64_t>& count);
// A p value as papers print it: "0.012", "<0.001".
std::string p_text(double p);

}  // namespace rwkvx
