// `rwkvx eval --compare` and `--report`: systems side by side.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/eval/comparison.h"
#include "rwkvx/report/table.h"

namespace CLI {
class App;
}

namespace rwkvx {

enum class EvalFormat { kJson, kCsv, kMarkdown, kLatex };
constexpr std::string_view enum_names(EvalFormat) { return "json|csv|markdown|latex"; }

struct EvalCompareFlags {
  std::vector<std::string> compare;
  std::string report;
  EvalFormat format = EvalFormat::kJson;
  CompareOptions options;
};

void add_eval_compare_flags(CLI::App& command, EvalCompareFlags& flags);
// --format and --report.
void add_eval_output_flags(CLI::App& command, EvalCompareFlags& flags);
// The format of a table; nothing for JSON.
std::optional<TableFormat> table_format(EvalFormat format);

// Scores `files`, writes the report where one is wanted, and returns what is to be printed.
std::string eval_compare(const EvalCompareFlags& flags, const std::vector<std::string>& files,
                         const PairFields& fields, const MetricSet& metrics,
                         const ScoringOptions& options);

}  // namespace rwkvx
