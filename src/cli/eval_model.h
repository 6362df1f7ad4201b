// `rwkvx eval --model`: the loss on a text, or the scores of continuations.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "rwkvx/eval/scoring.h"

namespace CLI {
class App;
}

namespace rwkvx {

struct EvalModelFlags {
  std::string model, text, prompts, prompt_field = "prompt", save_predictions, device = "auto";
  std::string cache, report;
  bool by_position = false;
  nlohmann::json generation;  // the generation flags that were given
};

void add_eval_model_flags(CLI::App& command, const std::shared_ptr<EvalModelFlags>& flags);

// The result of --model --text.
nlohmann::ordered_json eval_model_text(const EvalModelFlags& flags, const ScoringOptions& options);
// Continues the prompts of --prompts, scores them, and completes the summary's signature.
ScoreSummary eval_model_prompts(const EvalModelFlags& flags, const std::string& reference_field,
                                const MetricSet& metrics, const ScoringOptions& options,
                                bool diversity);

}  // namespace rwkvx
