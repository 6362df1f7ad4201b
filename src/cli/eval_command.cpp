#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/eval_flags.h"
#include "cli/output.h"
#include "cli/settings.h"
#include "cli/torch_part.h"
#include "rwkvx/base/input.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/eval/comparison_report.h"

namespace rwkvx {
namespace {

std::unique_ptr<PairSource> open_pairs(const EvalFlags& flags) {
  if (!flags.pairs.empty()) return pairs_from_json(flags.pairs, flags.fields);
  return pairs_from_texts(flags.predictions, flags.references);
}

nlohmann::ordered_json diversity_json(const Diversity& diversity) {
  nlohmann::ordered_json out = {{"texts", diversity.texts}, {"tokens", diversity.tokens}};
  for (std::size_t n = 0; n < diversity.distinct.size(); ++n)
    out["distinct" + std::to_string(n + 1)] = diversity.distinct[n];
  out["repetition"] = diversity.repetition;
  out["self_bleu"] = diversity.self_bleu;
  return out;
}

// The inputs as files that can be read any number of times: pipes and "-" are spooled, and their
// names become those of the copies, which live as long as the result.
std::vector<Input> take_inputs(EvalFlags& flags) {
  std::vector<Input> inputs;
  const auto take = [&](std::string& name) {
    if (name.empty()) return;
    inputs.emplace_back(name);
    name = inputs.back().path().string();
  };
  for (auto* name : {&flags.predictions, &flags.references, &flags.pairs, &flags.model.text,
                     &flags.model.prompts, &flags.choice.choices, &flags.choice.few_shot_from})
    take(*name);
  for (auto& name : flags.compare.compare) take(name);
  for (auto& system : flags.seeds.systems)
    for (auto& file : system.files) {
      auto name = file.string();
      take(name);
      file = name;
    }
  return inputs;
}

// What is printed.
std::string evaluate(const CLI::App& command, const EvalFlags& flags) {
  auto options = flags.scoring;
  options.per_sample = flags.per_sample;
  if (!flags.model.text.empty())
    return eval_model_text(flags.model, options, flags.compare.report).dump() + "\n";
  if (flags.model.reference_loss || flags.model.last_word) {
    const auto tokens =
        settings_from_flags<ChoiceConfig>(flags.choice.settings).continuation_tokens;
    return json_dump(
               eval_model_continuations(flags.model, flags.fields.reference, tokens, options)) +
           "\n";
  }
  if (!flags.choice.choices.empty())
    return eval_model_choices(flags.model, flags.choice, options, flags.compare.format);
  const bool systems = !flags.seeds.systems.empty();
  const auto first = systems ? flags.seeds.systems.front().files.front().string()
                     : files_to_compare(flags).empty() ? ""
                                                       : files_to_compare(flags).front();
  if (!first.empty() && holds_choice_outcomes(first))
    for (const auto& name : eval_metric_flag_names())
      refuse_idle(command, {name.c_str()}, "is about texts, not outcomes of --choices");
  const auto metrics = read_metrics(command, flags.metrics);
  std::optional<RougeTokens> diversity;
  if (flags.diversity) diversity = read_rouge_tokens(flags.metrics);
  const bool no_terminal = ::isatty(STDERR_FILENO) == 0;
  if (systems) {
    options.quiet = options.quiet || no_terminal;
    return eval_seeds(flags.seeds, flags.compare, flags.fields, metrics, options);
  }
  if (const auto compared = files_to_compare(flags); !compared.empty()) {
    options.quiet = options.quiet || no_terminal;
    return eval_compare(flags.compare, compared, flags.fields, metrics, options);
  }
  ScoreSummary summary;
  if (flags.model.model.empty()) {
    options.quiet = options.quiet || no_terminal;
    summary = score_pairs(*open_pairs(flags), metrics, options);
    if (diversity)
      summary.diversity = prediction_diversity(*open_pairs(flags), *diversity, options.skip_bad);
  } else {
    summary = eval_model_prompts(flags.model, flags.fields.reference, metrics, options, diversity);
  }
  if (const auto format = table_format(flags.compare.format))
    return format_table(summary_table(metrics, summary), *format);
  nlohmann::ordered_json result = {{"signature", summary.signature}, {"n", summary.n}};
  if (options.skip_bad) result["skipped"] = summary.skipped;
  const auto columns = metric_columns(metrics);
  result["scores"] = scores_json(columns, summary);
  if (summary.diversity) result["diversity"] = diversity_json(*summary.diversity);
  if (::isatty(STDOUT_FILENO) != 0) print_scores(columns, summary);
  return result.dump() + "\n";
}

}  // namespace

void add_eval_command(CLI::App& app) {
  auto* command = app.add_subcommand("eval", "Score predictions against references, or a model");
  auto flags = std::make_shared<EvalFlags>();

  command->option_defaults()->group("Predictions and references");
  command
      ->add_option("--pairs", flags->pairs,
                   "JSON lines with a prediction and one or more references each")
      ->type_name("FILE");
  command
      ->add_option("--prediction-field", flags->fields.prediction,
                   "with --pairs: name of the prediction field [prediction]")
      ->type_name("NAME");
  command
      ->add_option("--reference-field", flags->fields.reference,
                   "with --pairs or --prompts: name of the field with a reference or an array of "
                   "them [reference]")
      ->type_name("NAME");
  command->add_option("--predictions", flags->predictions, "text file, one prediction per line")
      ->type_name("FILE");
  command->add_option("--references", flags->references, "text file, one reference per line")
      ->type_name("FILE");
  command->add_flag("--skip-bad", flags->scoring.skip_bad,
                    "with --pairs: count invalid lines and continue");

  command->option_defaults()->group("Metrics");
  add_eval_metric_flags(*command, flags->metrics);
  command->add_flag("--diversity", flags->diversity,
                    "also measure how much the predictions repeat themselves: distinct n-grams, "
                    "repeated 4-grams, self-BLEU");

  command->option_defaults()->group("Comparison");
  add_eval_compare_flags(*command, flags->compare);
  add_eval_seed_flags(*command, flags->seeds);

  const std::shared_ptr<EvalModelFlags> model(flags, &flags->model);
  command->option_defaults()->group("Model");
  add_eval_model_flags(*command, model);
  command->option_defaults()->group("Likelihood (with --model)");
  add_eval_likelihood_flags(*command, model);
  add_eval_choice_flags(*command, flags->choice);
  command->option_defaults()->group("Generation (with --prompts)");
  add_eval_generation_flags(*command, model);

  command->option_defaults()->group("Output");
  add_eval_output_flags(*command, flags->compare);
  command
      ->add_option("--per-sample", flags->per_sample,
                   "also write the scores of every pair or item, one JSON object per line")
      ->type_name("FILE");
  // --quiet is for the bar; the result itself is always printed.
  flags->scoring.quiet = false;
  command->add_flag("--quiet", flags->scoring.quiet, "no progress bar");

  command->option_defaults()->group("Machine");
  command->add_option("--threads", flags->scoring.threads, "CPU threads; 0 = automatic [0]")
      ->type_name("N")
      ->check(between(0, 1024));
  command->add_option("--device", flags->model.device, "with --model: auto, cpu or cuda:N [auto]")
      ->type_name("NAME");
  command->footer(
      "Examples:\n"
      "  rwkvx eval --pairs predictions.jsonl --metrics rougeL,bleu,chrf\n"
      "  rwkvx eval --compare baseline.jsonl enhanced.jsonl --report comparison.html\n"
      "  rwkvx eval --system base base.1.jsonl base.2.jsonl --system gps gps.1.jsonl gps.2.jsonl\n"
      "  rwkvx eval --model RUN --choices questions.jsonl --per-sample outcomes.jsonl");
  command->callback([command, flags] {
    read_systems(flags->seeds);
    if (flags->model.last_word && command->count("--prompt-field") == 0)
      flags->model.prompt_field = "text";
    check_eval_flags(*command, *flags);
    if (!flags->model.model.empty()) hand_over_for_device(flags->model.device, "--device");
    flags->choice.few_shot_from = flags->choice.settings.value("few_shot_from", "");
    const auto inputs = take_inputs(*flags);
    print(evaluate(*command, *flags));
    finish_output();
  });
}

}  // namespace rwkvx
