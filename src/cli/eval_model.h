// `rwkvx eval --model`: the loss on a text, or the scores of continuations.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "rwkvx/adapters/apply.h"
#include "rwkvx/eval/scoring.h"
#include "rwkvx/generate/generator.h"
#include "rwkvx/generate/likelihood.h"

namespace CLI {
class App;
}

namespace rwkvx {

struct EvalModelFlags {
  std::string model, tokenizer, text, prompts, prompt_field = "prompt", save_predictions,
                                               device = "auto";
  std::string cache;
  bool by_position = false, reference_loss = false, last_word = false;
  std::int64_t window = 0, stride = 0;  // 0: not given
  AdapterChoice adapters;
  nlohmann::json generation;  // the generation flags that were given
};

void add_eval_model_flags(CLI::App& command, const std::shared_ptr<EvalModelFlags>& flags);
// --reference-loss and --last-word.
void add_eval_likelihood_flags(CLI::App& command, const std::shared_ptr<EvalModelFlags>& flags);
// The settings of generation.
void add_eval_generation_flags(CLI::App& command, const std::shared_ptr<EvalModelFlags>& flags);

std::unique_ptr<Generator> open_generator(const EvalModelFlags& flags,
                                          const ScoringOptions& options);
// What scores depend on of a model: "model:…|tokenizer:…|precision:f32".
std::string model_signature(const Generator& generator);

// The result of --model --text. Writes an HTML page to `report` unless that is empty.
nlohmann::ordered_json eval_model_text(const EvalModelFlags& flags, const ScoringOptions& options,
                                       const std::string& report);
// The result of --reference-loss and of --last-word.
nlohmann::ordered_json eval_model_continuations(const EvalModelFlags& flags,
                                                const std::string& reference_field,
                                                ContinuationTokens tokens,
                                                const ScoringOptions& options);
// Continues the prompts of --prompts, scores them, and completes the summary's signature; measures
// their diversity in the tokens of `diversity`, if any.
ScoreSummary eval_model_prompts(const EvalModelFlags& flags, const std::string& reference_field,
                                const MetricSet& metrics, const ScoringOptions& options,
                                const std::optional<RougeTokens>& diversity);

}  // namespace rwkvx
