// Questions with several answers of which one is right: a model takes the one it finds most likely.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include "rwkvx/base/field.h"
#include "rwkvx/eval/pairs.h"
#include "rwkvx/generate/likelihood.h"
#include "rwkvx/metrics/choice_scores.h"
#include "rwkvx/metrics/proportion.h"

namespace rwkvx {

struct ChoiceConfig {
  std::string choices_field = "choices", answer_field = "answer";
  std::string prompt_template;  // empty: the prompt is a field
  std::int64_t few_shot = 0;
  std::string few_shot_from;
  std::string target_delimiter;
  ContinuationTokens continuation_tokens = ContinuationTokens::kJoint;
  std::int64_t calibration_bins = 10;

  static constexpr auto fields() {
    using C = ChoiceConfig;
    using I = Field<C, std::int64_t>;
    using Text = Field<C, std::string>;
    return std::tuple{
        Text{"choices_field", &C::choices_field,
             "with --choices: name of the field with the array of choices"},
        Text{"answer_field", &C::answer_field,
             "with --choices: name of the field with the right choice, its index from 0 or its "
             "text"},
        Text{"prompt_template", &C::prompt_template,
             "with --choices: the prompt with the text of a field for each {FIELD}, in place of "
             "--prompt-field; {{ and }} are braces"},
        I{"few_shot", &C::few_shot,
          "with --choices: put this many answered items of --few-shot-from before each prompt", 0,
          10000},
        Text{"few_shot_from", &C::few_shot_from,
             "with --few-shot: file of items as --choices; its first ones are used"},
        Text{"target_delimiter", &C::target_delimiter,
             "with --choices: text between prompt and choice, which counts to no length"},
        Field<C, ContinuationTokens>{
            "continuation_tokens", &C::continuation_tokens,
            "with --choices, --reference-loss or --last-word: tokens of prompt and what follows it "
            "joint, or of the latter apart"},
        I{"calibration_bins", &C::calibration_bins,
          "with --choices: bins of equal width for the calibration", 1, 1000}};
  }
  void check(const std::string& where) const;
};

// What one item of a set was answered.
struct ChoiceOutcome {
  std::uint64_t line = 0;  // in the file of the items
  std::string id;          // as JSON, empty where none was given
  std::string item;        // hash of prompt, choices and answer
  std::size_t answer = 0;
  std::vector<ChoiceLikelihood> choices;
};

struct ChoiceSummary {
  std::string signature;
  std::int64_t items = 0, choices = 0;
  std::int64_t merged = 0;  // choices that begin within a token of their prompt
  std::array<ShareInterval, kChoiceRules.size()> accuracy;
  ShareInterval exact_match;  // the answer is what greedy decoding would write
  double brier_score = 0;
  double chance = 0;    // accuracy of guessing
  double majority = 0;  // accuracy of always taking the index that is most often right
  Calibration calibration{1};
  // Items by answer and by the choice of rule acc. Labels are the choices where all items have the
  // same ones, else their indices.
  std::vector<std::string> labels;
  std::vector<std::vector<std::int64_t>> confusion;
};

// Scores the items of a file of JSON lines with prompt, choices (an array of texts) and answer.
// Writes an outcome per item to `details` unless that is empty: JSON lines for
// read_choice_outcomes(). The signature is left to the caller. Throws DataError naming file, line
// and field for a line that is no such item, and for a file without items; Error where a
// log-likelihood is not finite; Interrupted.
ChoiceSummary eval_choices(Generator& generator, const std::filesystem::path& items,
                           const std::string& prompt_field, const ChoiceConfig& config,
                           const std::filesystem::path& details, bool quiet);

// The part of a signature that `config` is, without the hash of --few-shot-from.
std::string choice_signature(const ChoiceConfig& config);

// Whether a file begins with an outcome that eval_choices() wrote.
bool holds_choice_outcomes(const std::filesystem::path& path);
// Throws DataError naming file and line for one that is none, and where there are none.
std::vector<ChoiceOutcome> read_choice_outcomes(const std::filesystem::path& path);

}  // namespace rwkvx
