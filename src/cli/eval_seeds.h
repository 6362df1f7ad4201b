// `rwkvx eval --system NAME FILE…`: systems of several seeds side by side.
#pragma once

#include <string>
#include <vector>

#include "cli/eval_compare.h"
#include "rwkvx/eval/seed_report.h"

namespace CLI {
class App;
}

namespace rwkvx {

struct EvalSeedFlags {
  std::vector<std::string> words;  // of each --system: "", its name, its files
  std::vector<SeedSystem> systems;
  SeedOptions options;
  double detect = 0;  // 0: not given
};

void add_eval_seed_flags(CLI::App& command, EvalSeedFlags& flags);
// Reads `systems` from `words`. Throws ConfigError for fewer than two systems, names that stand
// twice, and systems of fewer than two files.
void read_systems(EvalSeedFlags& flags);

// Scores all files, writes the report where one is wanted, and returns what is to be printed.
std::string eval_seeds(const EvalSeedFlags& flags, const EvalCompareFlags& compare,
                       const PairFields& fields, const MetricSet& metrics,
                       const ScoringOptions& options);

}  // namespace rwkvx
