#include "rwkvx/report/table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "rwkvx/base/utf8.h"

namespace rwkvx {
namespace {

std::string csv_cell(const std::string& cell) {
  if (cell.find_first_of(",\"\r\n") == std::string::npos) return cell;
  std::string quoted = "\"";
  for (const char c : cell) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string markdown_cell(const std::string& cell) {
  std::string escaped;
  for (const char c : cell) {
    if (c == '\n' || c == '\r')
      escaped += ' ';
    else if (c == '|' || c == '\\' || c == '<' || c == '*' || c == '_' || c == '`')
      escaped += std::string("\\") + c;
    else
      escaped += c;
  }
  return escaped;
}

std::string latex_cell(const std::string& cell) {
  std::string escaped;
  for (const char c : cell) {
    if (c == '\\')
      escaped += "\\textbackslash{}";
    else if (c == '~')
      escaped += "\\textasciitilde{}";
    else if (c == '^')
      escaped += "\\textasciicircum{}";
    else if (c == '<' || c == '>')
      escaped += std::string("$") + c + "$";
    else if (c == '\n' || c == '\r')
      escaped += ' ';
    else if (std::string_view("&%$#_{}").find(c) != std::string_view::npos)
      escaped += std::string("\\") + c;
    else
      escaped += c;
  }
  return escaped;
}

template <class Escape>
std::string joined(const std::vector<std::string>& cells, const Escape& escape,
                   const std::string& open, const std::string& between, const std::string& close) {
  std::string line = open;
  for (std::size_t i = 0; i < cells.size(); ++i) line += (i > 0 ? between : "") + escape(cells[i]);
  return line + close + "\n";
}

std::string one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return text;
}

// Code points, near enough to columns for a terminal.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return !continues_utf8(c); }));
}

std::string plain(const ResultTable& table) {
  std::vector<std::size_t> widths;
  for (const auto& column : table.columns) widths.push_back(width_of(column));
  for (const auto& row : table.rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string room(widths[i] - width_of(cells[i]), ' ');
      text += i == 0 ? one_line(cells[i]) + room : "  " + room + one_line(cells[i]);
    }
    return text + "\n";
  };
  std::string text = line(table.columns);
  for (const auto& row : table.rows) text += line(row);
  return text + (table.note.empty() ? "" : one_line(table.note) + "\n");
}

}  // namespace

std::optional<TableFormat> table_format(std::string_view name) {
  if (name == "plain") return TableFormat::kPlain;
  if (name == "csv") return TableFormat::kCsv;
  if (name == "markdown") return TableFormat::kMarkdown;
  if (name == "latex") return TableFormat::kLatex;
  return std::nullopt;
}

std::string format_table(const ResultTable& table, TableFormat format) {
  std::string text;
  switch (format) {
    case TableFormat::kCsv:
      text = joined(table.columns, csv_cell, "", ",", "");
      for (const auto& row : table.rows) text += joined(row, csv_cell, "", ",", "");
      return text;
    case TableFormat::kMarkdown: {
      text = joined(table.columns, markdown_cell, "| ", " | ", " |") + "|";
      for (std::size_t i = 0; i < table.columns.size(); ++i)
        text += i == 0 || table.texts ? "---|" : "---:|";
      text += "\n";
      for (const auto& row : table.rows) text += joined(row, markdown_cell, "| ", " | ", " |");
      return text + (table.note.empty() ? "" : "\n`" + one_line(table.note) + "`\n");
    }
    case TableFormat::kLatex: {
      const std::string right(table.columns.size() - 1, 'r');
      text = (table.note.empty() ? "" : "% " + one_line(table.note) + "\n") + "\\begin{tabular}{l" +
             right + "}\n\\hline\n" + joined(table.columns, latex_cell, "", " & ", " \\\\") +
             "\\hline\n";
      for (const auto& row : table.rows) text += joined(row, latex_cell, "", " & ", " \\\\");
      return text + "\\hline\n\\end{tabular}\n";
    }
    default:
      return plain(table);
  }
}

std::string fixed_text(double value, int digits) {
  if (!std::isfinite(value)) return "–";
  char text[400];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string count_or_dash(const std::optional<std::int64_t>& count) {
  return count ? std::to_string(*count) : "–";
}

std::string p_text(double p) { return p < 0.001 ? "<0.001" : fixed_text(p, 3); }

}  // namespace rwkvx
