// All flags of `rwkvx eval`.
#pragma once

#include <string>
#include <vector>

#include "cli/eval_choices.h"
#include "cli/eval_compare.h"
#include "cli/eval_metrics.h"
#include "cli/eval_model.h"
#include "cli/eval_seeds.h"
#include "rwkvx/eval/pairs.h"
#include "rwkvx/eval/scoring.h"

namespace CLI {
class App;
}

namespace rwkvx {

struct EvalFlags {
  std::string predictions, references, pairs;
  PairFields fields;
  EvalMetricFlags metrics;
  ScoringOptions scoring;
  std::string per_sample;
  bool diversity = false;
  EvalModelFlags model;
  EvalChoiceFlags choice;
  EvalCompareFlags compare;
  EvalSeedFlags seeds;
};

// Throws ConfigError for flags that do not go together, that change nothing, or that name an output
// that is an input or cannot be written. Called before any work.
void check_eval_flags(const CLI::App& command, const EvalFlags& flags);

// The files that are scored sample by sample: of --compare, or of --pairs with --report.
std::vector<std::string> files_to_compare(const EvalFlags& flags);

}  // namespace rwkvx
