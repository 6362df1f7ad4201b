#include "cli/eval_choices.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/settings.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/version.h"

namespace rwkvx {
namespace {

using nlohmann::ordered_json;

ordered_json share_json(const ShareInterval& share) {
  return {{"score", share.share}, {"low", share.low}, {"high", share.high}};
}

ordered_json summary_json(const ChoiceSummary& summary) {
  ordered_json result = {{"signature", summary.signature}, {"n", summary.items}};
  auto& scores = result["scores"] = ordered_json::object();
  for (std::size_t rule = 0; rule < kChoiceRules.size(); ++rule)
    scores[std::string(kChoiceRules[rule])] = share_json(summary.accuracy[rule]);
  scores["exact_match"] = share_json(summary.exact_match);
  scores["brier_score"] = {{"score", summary.brier_score}};
  result["chance"] = summary.chance;
  result["majority"] = summary.majority;
  result["merged_choices"] = summary.merged;
  auto& calibration =
      result["calibration"] = {{"expected_calibration_error", summary.calibration.expected_error()},
                               {"bins", ordered_json::array()}};
  for (const auto& bin : summary.calibration.bins()) {
    const auto n = static_cast<double>(bin.items);
    ordered_json row = {{"from", bin.from}, {"to", bin.to}, {"n", bin.items}};
    row["confidence"] = bin.items > 0 ? ordered_json(bin.confidence / n) : nullptr;
    row["accuracy"] = bin.items > 0 ? ordered_json(static_cast<double>(bin.right) / n) : nullptr;
    calibration["bins"].push_back(row);
  }
  result["confusion"] = {{"labels", summary.labels}, {"answers_by_choice", summary.confusion}};
  return result;
}

ResultTable summary_table(const ChoiceSummary& summary) {
  ResultTable table;
  table.columns = {"metric", "score", "95 %"};
  const auto add = [&](std::string_view name, const ShareInterval& share) {
    table.rows.push_back(
        {std::string(name), fixed_text(100 * share.share, 2),
         "[" + fixed_text(100 * share.low, 2) + ", " + fixed_text(100 * share.high, 2) + "]"});
  };
  for (std::size_t rule = 0; rule < kChoiceRules.size(); ++rule)
    add(kChoiceRules[rule], summary.accuracy[rule]);
  add("exact_match", summary.exact_match);
  table.rows.push_back({"brier_score", fixed_text(summary.brier_score, 4), ""});
  table.rows.push_back(
      {"calibration error", fixed_text(100 * summary.calibration.expected_error(), 2), ""});
  table.rows.push_back({"chance", fixed_text(100 * summary.chance, 2), ""});
  table.rows.push_back({"majority", fixed_text(100 * summary.majority, 2), ""});
  table.note = summary.signature;
  return table;
}

}  // namespace

void add_eval_choice_flags(CLI::App& command, EvalChoiceFlags& flags) {
  command
      .add_option("--choices", flags.choices,
                  "with --model: JSON lines with prompt, choices and answer; the choice that the "
                  "model finds most likely is compared with the answer")
      ->type_name("FILE");
  add_setting_flags<ChoiceConfig>(command, flags.settings);
}

std::vector<std::string> eval_choice_flag_names() {
  std::vector<std::string> names;
  for_each_field<ChoiceConfig>([&](const auto& field) { names.push_back(flag_name(field.name)); });
  return names;
}

std::string eval_model_choices(const EvalModelFlags& model, const EvalChoiceFlags& flags,
                               const ScoringOptions& options, EvalFormat format) {
  auto config = settings_from_flags<ChoiceConfig>(flags.settings);
  config.few_shot_from = flags.few_shot_from;
  const auto generator = open_generator(model, options);
  auto summary = eval_choices(*generator, flags.choices, model.prompt_field, config,
                              options.per_sample, options.quiet);
  summary.signature =
      "rwkvx:" + version() + "|task:choices|" + model_signature(*generator) +
      "|choices:" + hash_file(flags.choices) +
      (config.few_shot > 0 ? "|few_shot_from:" + hash_file(config.few_shot_from) : "") + "|" +
      choice_signature(config);
  if (summary.merged > 0)
    log_warning(count_text(summary.merged) + " of " + count_text(summary.choices) +
                " choices begin within a token of their prompt, so their log-likelihoods leave "
                "characters out, as in lm-evaluation-harness; end the prompts elsewhere, or set "
                "--continuation-tokens apart");
  if (const auto table = table_format(format)) return format_table(summary_table(summary), *table);
  if (::isatty(STDOUT_FILENO) != 0) {
    auto table = summary_table(summary);
    table.note.clear();
    std::fprintf(stderr, "%s items, %%\n%s", count_text(summary.items).c_str(),
                 format_table(table, TableFormat::kPlain).c_str());
  }
  return json_dump(summary_json(summary)) + "\n";
}

}  // namespace rwkvx
