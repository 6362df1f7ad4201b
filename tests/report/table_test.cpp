#include "rwkvx/report/table.h"

#include <gtest/gtest.h>

#include <cmath>

namespace rwkvx {
namespace {

const ResultTable kTable{{"a", "b"}, {{"x,\"y\"", "1_%"}, {"p|q\n", "<2"}}, "note"};

TEST(ResultTable, EscapesCellsAsEachFormatWants) {
  EXPECT_EQ(format_table(kTable, TableFormat::kCsv), "a,b\n\"x,\"\"y\"\"\",1_%\n\"p|q\n\",<2\n");
  EXPECT_EQ(format_table(kTable, TableFormat::kMarkdown),
            "| a | b |\n|---|---:|\n| x,\"y\" | 1\\_% |\n| p\\|q  | \\<2 |\n\n`note`\n");
  EXPECT_EQ(format_table(kTable, TableFormat::kLatex),
            "% note\n\\begin{tabular}{lr}\n\\hline\na & b \\\\\n\\hline\nx,\"y\" & 1\\_\\% \\\\\n"
            "p|q  & $<$2 \\\\\n\\hline\n\\end{tabular}\n");
  EXPECT_EQ(format_table(kTable, TableFormat::kPlain),
            "a        b\nx,\"y\"  1_%\np|q     <2\nnote\n");
}

TEST(ResultTable, NumbersReadAsInPapers) {
  EXPECT_EQ(fixed_text(1.005, 1), "1.0");
  EXPECT_EQ(fixed_text(std::nan(""), 2), "–");
  EXPECT_EQ(p_text(0.0001), "<0.001");
  EXPECT_EQ(p_text(0.04999), "0.050");
  EXPECT_FALSE(table_format("xml"));
  EXPECT_EQ(table_format("latex"), TableFormat::kLatex);
}

}  // namespace
}  // namespace rwkvx
