#include "cli/eval_flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <utility>

#include "cli/arguments.h"
#include "cli/model_flags.h"
#include "cli/outputs.h"
#include "cli/settings.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/output_file.h"

namespace rwkvx {
namespace {

bool scores_texts(const EvalFlags& flags) {
  return !flags.pairs.empty() || !flags.predictions.empty() || !flags.references.empty();
}

std::string few_shot_file(const EvalFlags& flags) {
  return flags.choice.settings.value("few_shot_from", "");
}

// The files of all systems.
std::vector<std::string> system_files(const EvalFlags& flags) {
  std::vector<std::string> files;
  for (const auto& system : flags.seeds.systems)
    for (const auto& file : system.files) files.push_back(file.string());
  return files;
}

void check_inputs(const EvalFlags& flags) {
  const auto& model = flags.model;
  const auto& compared = flags.compare.compare;
  const bool systems = !flags.seeds.systems.empty();
  if (systems && (!compared.empty() || scores_texts(flags) || !model.model.empty() ||
                  !flags.per_sample.empty()))
    throw ConfigError("--system",
                      "cannot be combined with --compare, --pairs, --predictions, --references, "
                      "--per-sample or --model");
  if (compared.size() == 1)
    throw ConfigError("--compare", "expected two or more files, got 1; to score one, use --pairs");
  if (!compared.empty() &&
      (scores_texts(flags) || !model.model.empty() || !flags.per_sample.empty()))
    throw ConfigError("--compare",
                      "cannot be combined with --pairs, --predictions, --references, "
                      "--per-sample or --model");
  if (!flags.pairs.empty() && (!flags.predictions.empty() || !flags.references.empty()))
    throw ConfigError("--pairs", "cannot be combined with --predictions or --references");
  if (!flags.compare.report.empty() && compared.empty() && model.text.empty() &&
      flags.pairs.empty() && !systems)
    throw ConfigError(
        "--report",
        "expected --pairs, --compare, --system or --text, got none of them; to report on a "
        "model's continuations, write them with --save-predictions first");
  if (!model.model.empty() && scores_texts(flags))
    throw ConfigError("--model", "cannot be combined with --pairs, --predictions or --references");
  const auto tasks = {std::pair{"--text", model.text}, std::pair{"--prompts", model.prompts},
                      std::pair{"--choices", flags.choice.choices}};
  const auto given = std::count_if(tasks.begin(), tasks.end(),
                                   [](const auto& one) { return !one.second.empty(); });
  if (!model.model.empty() && given != 1)
    throw ConfigError("--model",
                      std::string("expected one of --text FILE, --prompts FILE and --choices FILE, "
                                  "got ") +
                          (given == 0   ? "none"
                           : given == 2 ? "two"
                                        : "all"));
  if (model.model.empty())
    for (const auto& [name, value] : tasks)
      if (!value.empty()) throw ConfigError(name, "requires --model DIR");
  if (flags.predictions.empty() != flags.references.empty())
    throw ConfigError(
        flags.predictions.empty() ? "--references" : "--predictions",
        std::string("requires ") + (flags.predictions.empty() ? "--predictions" : "--references"));
  if (!scores_texts(flags) && model.model.empty() && compared.empty() && !systems)
    throw ConfigError("eval",
                      "expected --pairs FILE, --predictions FILE and --references FILE, --compare "
                      "FILES, --system NAME FILES, or --model DIR with --text FILE, --prompts FILE "
                      "or --choices FILE");
  auto inputs = system_files(flags);
  inputs.insert(inputs.end(), compared.begin(), compared.end());
  inputs.insert(inputs.end(), {flags.predictions, flags.references, flags.pairs, model.text,
                               model.prompts, flags.choice.choices, few_shot_file(flags)});
  if (std::count(inputs.begin(), inputs.end(), "-") > 1)
    throw ConfigError("-", "standard input can be given once only");
}

// Flags that were given and change nothing.
void check_idle(const CLI::App& command, const EvalFlags& flags) {
  const auto& model = flags.model;
  const auto refuse = [&](const std::vector<std::string>& names, const std::string& reason) {
    for (const auto& name : names) refuse_idle(command, {name.c_str()}, reason);
  };
  const bool choices = !flags.choice.choices.empty();
  if (model.prompts.empty()) {
    if (!choices) refuse({"--prompt-field"}, "needs --prompts or --choices");
    refuse({"--save-predictions", "--cache"}, "needs --prompts");
    for_each_field<GenerateConfig>(
        [&](const auto& field) { refuse({flag_name(field.name)}, "needs --prompts"); });
  }
  const bool likelihoods = model.reference_loss || model.last_word;
  if (likelihoods) {
    if (model.prompts.empty()) refuse({"--reference-loss", "--last-word"}, "needs --prompts");
    if (model.reference_loss && model.last_word)
      throw ConfigError("--last-word", "cannot be combined with --reference-loss");
    refuse({"--save-predictions", "--cache"}, "is about continuations, which are not generated");
    for_each_field<GenerateConfig>([&](const auto& field) {
      refuse({flag_name(field.name)}, "is about continuations, which are not generated");
    });
    refuse({"--format"}, "is about scores of texts");
    if (model.last_word) refuse({"--reference-field"}, "is about references");
  }
  if (!choices) {
    for (const auto& name : eval_choice_flag_names())
      if (!likelihoods || name != "--continuation-tokens")
        refuse({name}, name == "--continuation-tokens"
                           ? "needs --choices, --reference-loss or --last-word"
                           : "needs --choices");
  }
  if (choices && flags.choice.settings.contains("prompt_template"))
    refuse({"--prompt-field"}, "is replaced by --prompt-template");
  if (choices || likelihoods) {
    refuse(eval_metric_flag_names(), "is about scores of texts");
    refuse({"--diversity", "--report"}, "is about scores of texts");
  }
  if (model.text.empty()) refuse({"--window"}, "needs --text");
  if (model.window == 0) refuse({"--stride"}, "needs --window");
  if (model.window > 0) {
    refuse({"--by-position", "--report"}, "is about a state that is carried, not --window");
    if (model.stride > model.window)
      throw ConfigError("--stride", "expected at most --window " + std::to_string(model.window) +
                                        ", got " + std::to_string(model.stride));
  }
  if (model.text.empty()) refuse({"--by-position"}, "needs --text");
  if (model.model.empty()) refuse({"--device", "--model-tokenizer", "--adapter"}, "needs --model");
  check_adapter_flags(command, model.adapters);
  if (!model.text.empty()) {
    refuse(eval_metric_flag_names(), "is about scores, not --text");
    refuse({"--per-sample", "--skip-bad", "--format", "--prediction-field", "--reference-field"},
           "is about scores, not --text");
  }
  const bool systems = !flags.seeds.systems.empty();
  const bool lines = !flags.pairs.empty() || !flags.compare.compare.empty() || systems;
  if (!lines) refuse({"--skip-bad", "--prediction-field"}, "needs --pairs");
  if (!lines && model.prompts.empty()) refuse({"--reference-field"}, "needs --pairs or --prompts");
  if (files_to_compare(flags).empty()) {
    refuse({"--length-of"}, "needs --compare, or --pairs with --report");
    if (!systems)
      refuse({"--resamples", "--test-seed"}, "needs --compare, --system, or --pairs with --report");
  }
  if (!systems) refuse({"--paired-seeds", "--detect"}, "needs --system");
  if (flags.diversity && (!model.text.empty() || !files_to_compare(flags).empty() || systems ||
                          flags.compare.format != EvalFormat::kJson))
    throw ConfigError("--diversity",
                      "requires --pairs, --predictions or --prompts, and --format json");
}

void check_outputs(const EvalFlags& flags) {
  const auto& model = flags.model;
  if (const auto examples = few_shot_file(flags);
      !examples.empty() && same_file(examples, flags.choice.choices))
    throw ConfigError(
        "--few-shot-from",
        "expected another file than --choices, whose first items would be answered in "
        "their own prompts");
  const std::vector<std::pair<std::string, std::filesystem::path>> outputs = {
      {"--per-sample", flags.per_sample},
      {"--report", flags.compare.report},
      {"--save-predictions", model.save_predictions}};
  for (const auto& [option, path] : outputs) {
    if (path.empty()) continue;
    refuse_same_file(option, path,
                     {{"--predictions", flags.predictions},
                      {"--references", flags.references},
                      {"--pairs", flags.pairs},
                      {"--text", model.text},
                      {"--prompts", model.prompts},
                      {"--choices", flags.choice.choices},
                      {"--few-shot-from", few_shot_file(flags)}});
    for (const auto& file : flags.compare.compare)
      refuse_same_file(option, path, {{"--compare", file}});
    for (const auto& file : system_files(flags))
      refuse_same_file(option, path, {{"--system", file}});
    for (const auto& [flag, value] : eval_metric_texts(flags.metrics))
      refuse_same_file(option, path, {{flag, value}});
    if (!model.model.empty()) refuse_model_file(option, path, model.model);
    refuse_adapter_file(option, path, model.adapters);
    check_writable(path);
  }
  refuse_same_outputs(outputs);
}

}  // namespace

void check_eval_flags(const CLI::App& command, const EvalFlags& flags) {
  check_inputs(flags);
  check_idle(command, flags);
  check_outputs(flags);
}

std::vector<std::string> files_to_compare(const EvalFlags& flags) {
  if (flags.compare.report.empty() || flags.pairs.empty()) return flags.compare.compare;
  return {flags.pairs};
}

}  // namespace rwkvx
