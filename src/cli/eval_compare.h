// `rwkvx eval --compare` and `--report`: systems side by side.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rwkvx/eval/scoring.h"

namespace CLI {
class App;
}

namespace rwkvx {

struct EvalCompareFlags {
  std::vector<std::string> compare;
  std::string report, format = "json", length_of = "reference";
  std::int64_t resamples = 10000;
  std::uint64_t seed = 0;
};

void add_eval_compare_flags(CLI::App& command, EvalCompareFlags& flags);
// Throws ConfigError for values of these flags that there are not.
void check_eval_compare_flags(const EvalCompareFlags& flags);

// Scores `files`, writes the report where one is wanted, and returns what is to be printed.
std::string eval_compare(const EvalCompareFlags& flags, const std::vector<std::string>& files,
                         const PairFields& fields, const MetricSet& metrics,
                         const ScoringOptions& options);

// The scores of a set as JSON.
nlohmann::ordered_json scores_json(const MetricSet& metrics, const ScoreSummary& summary);

}  // namespace rwkvx
