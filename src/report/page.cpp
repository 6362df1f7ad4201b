#include "rwkvx/report/page.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/report/html.h"

namespace rwkvx {

std::string number_text(double value, int digits) {
  if (!std::isfinite(value)) return "–";
  char text[64];
  const double size = std::abs(value);
  if (size >= 1e7 || (size > 0 && size < 1e-4)) {
    std::snprintf(text, sizeof text, "%.*e", digits - 1, value);
    return text;
  }
  const int before = size > 0 ? static_cast<int>(std::floor(std::log10(size))) + 1 : 1;
  std::snprintf(text, sizeof text, "%.*f", std::max(0, digits - before), value);
  return text;
}

std::string signed_text(double value, int digits) {
  return (value >= 0 ? "+" : "") + number_text(value, digits);
}

void Page::heading(int level, const std::string& text) {
  blocks_.push_back({.kind = Block::Kind::kHeading, .level = level, .text = text});
}
void Page::text(const std::string& text) {
  blocks_.push_back({.kind = Block::Kind::kText, .text = text});
}
void Page::table(const ResultTable& table) {
  blocks_.push_back({.kind = Block::Kind::kTable, .table = table});
}
void Page::append(const Page& other) {
  blocks_.insert(blocks_.end(), other.blocks_.begin(), other.blocks_.end());
}
void Page::figure(const std::string& name, const std::string& svg, const std::string& caption) {
  blocks_.push_back({.kind = Block::Kind::kFigure, .text = caption, .name = name, .svg = svg});
}

std::string Page::markdown(const std::string& folder) const {
  std::string out = "# " + title_ + "\n";
  for (const auto& block : blocks_) {
    out += "\n";
    switch (block.kind) {
      case Block::Kind::kHeading:
        out += std::string(static_cast<std::size_t>(block.level), '#') + " " + block.text + "\n";
        break;
      case Block::Kind::kText:
        out += block.text + "\n";
        break;
      case Block::Kind::kFigure:
        out += "![" + block.text + "](" + folder + "/" + block.name + ")\n\n*" + block.text + "*\n";
        break;
      case Block::Kind::kTable:
        out += format_table(block.table, TableFormat::kMarkdown);
        break;
    }
  }
  return out;
}

std::string Page::html() const {
  std::string out;
  for (const auto& block : blocks_) {
    const auto level = std::to_string(block.level);
    switch (block.kind) {
      case Block::Kind::kHeading:
        out += "<h" + level + ">" + escape_html(block.text) + "</h" + level + ">\n";
        break;
      case Block::Kind::kText:
        out += "<p>" + escape_html(block.text) + "</p>\n";
        break;
      case Block::Kind::kFigure:
        out += "<figure>" + block.svg + "<figcaption>" + escape_html(block.text) +
               "</figcaption></figure>\n";
        break;
      case Block::Kind::kTable:
        out += html_table(block.table.columns, block.table.rows, block.table.texts);
        if (!block.table.note.empty()) out += "<p>" + escape_html(block.table.note) + "</p>\n";
        break;
    }
  }
  return html_page(title_, out);
}

void Page::write(const std::filesystem::path& directory, const std::string& name) const {
  std::filesystem::create_directories(directory / name);
  write_file(directory / (name + ".md"), markdown(name));
  write_file(directory / name / "report.html", html());
  for (const auto& block : blocks_)
    if (block.kind == Block::Kind::kFigure)
      write_file(directory / name / block.name, svg_file(block.svg));
}

}  // namespace rwkvx
