// A report as text, tables and drawings, written as Markdown and as one HTML page that needs
// nothing else.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "rwkvx/report/table.h"

namespace rwkvx {

// "0.0123", "1.23", "123": `digits` significant ones; "–" for a value that is not finite.
std::string number_text(double value, int digits = 4);
// "+0.0123", "-4.5".
std::string signed_text(double value, int digits = 3);

class Page {
 public:
  explicit Page(std::string title) : title_(std::move(title)) {}
  // Level 2 is that of the first headings below the title.
  void heading(int level, const std::string& text);
  void text(const std::string& text);
  void table(const ResultTable& table);
  // Everything of another page but its title.
  void append(const Page& other);
  // A drawing of report/plot.h, by the file name that it has beside the Markdown.
  void figure(const std::string& name, const std::string& svg, const std::string& caption);
  // The plots are pictures in the directory `folder`.
  std::string markdown(const std::string& folder) const;
  std::string html() const;
  // Writes DIRECTORY/NAME.md, and in DIRECTORY/NAME/ report.html and the drawings.
  void write(const std::filesystem::path& directory, const std::string& name) const;

 private:
  struct Block {
    enum class Kind { kHeading, kText, kTable, kFigure } kind;
    int level = 0;
    std::string text{}, name{}, svg{};
    ResultTable table{};
  };
  std::string title_;
  std::vector<Block> blocks_;
};

}  // namespace rwkvx
