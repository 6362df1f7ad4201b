// `rwkvx eval --model --choices`: the answers that a model finds most likely.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/eval_compare.h"
#include "cli/eval_model.h"
#include "rwkvx/eval/choices.h"

namespace CLI {
class App;
}

namespace rwkvx {

struct EvalChoiceFlags {
  std::string choices;      // the file
  nlohmann::json settings;  // those of ChoiceConfig that were given
  // The file of --few-shot-from as it can be read, where it was a pipe.
  std::string few_shot_from;
};

void add_eval_choice_flags(CLI::App& command, EvalChoiceFlags& flags);
// The names of the settings' flags.
std::vector<std::string> eval_choice_flag_names();

// What is to be printed: JSON or a table; on a terminal also a table for the eyes on standard
// error.
std::string eval_model_choices(const EvalModelFlags& model, const EvalChoiceFlags& flags,
                               const ScoringOptions& options, EvalFormat format);

}  // namespace rwkvx
