#include "cli/eval_compare.h"

#include <CLI/CLI.hpp>
#include <cmath>

#include "cli/arguments.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/eval/comparison_report.h"

namespace rwkvx {
namespace {

using nlohmann::ordered_json;

ordered_json number(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

ordered_json means_json(const std::vector<std::string>& names,
                        const std::vector<MeanInterval>& means) {
  auto json = ordered_json::object();
  for (std::size_t i = 0; i < names.size(); ++i)
    json[names[i]] = {{"mean", means[i].mean}, {"low", means[i].low}, {"high", means[i].high}};
  return json;
}

ordered_json comparison_json(const Comparison& comparison) {
  const auto names = metric_names(comparison.metrics);
  ordered_json json = {{"signature", comparison.signature}};
  json["systems"] = ordered_json::array();
  for (const auto& system : comparison.systems)
    json["systems"].push_back({{"name", system.name},
                               {"n", system.summary.n},
                               {"skipped", system.summary.skipped},
                               {"scores", scores_json(comparison.metrics, system.summary)},
                               {"means", means_json(names, system.means)}});
  json["comparisons"] = ordered_json::array();
  for (const auto& item : comparison.comparisons) {
    const auto& paired = item.paired;
    json["comparisons"].push_back({{"metric", item.metric},
                                   {"a", comparison.systems.front().name},
                                   {"b", comparison.systems[item.system].name},
                                   {"mean_a", paired.mean_a},
                                   {"mean_b", paired.mean_b},
                                   {"difference", paired.difference},
                                   {"low", paired.low},
                                   {"high", paired.high},
                                   {"effect_size", number(paired.effect_size)},
                                   {"p_bootstrap", paired.p_bootstrap},
                                   {"p_randomisation", paired.p_randomisation},
                                   {"p_holm", item.p_holm},
                                   {"samples", paired.samples}});
  }
  json["by_length"] = ordered_json::array();
  for (const auto& bucket : comparison.buckets) {
    ordered_json row = {{"from", bucket.from}, {"to", bucket.to}, {"samples", bucket.samples}};
    row["means"] = ordered_json::array();
    for (const auto& means : bucket.means) row["means"].push_back(means_json(names, means));
    json["by_length"].push_back(row);
  }
  return json;
}

}  // namespace

void add_eval_compare_flags(CLI::App& command, EvalCompareFlags& flags) {
  command
      .add_option(
          "--compare", flags.compare,
          "two or more files of JSON lines with the same references: each against the first")
      ->type_name("FILE...");
  command
      .add_option("--report", flags.report,
                  "with --compare, --pairs or --text: also write an HTML page")
      ->type_name("FILE");
  command
      .add_option("--format", flags.format, "of the result: json, csv, markdown or latex [json]")
      ->type_name("NAME");
  command
      .add_option("--length-of", flags.length_of,
                  "scores by the length of: reference or prompt [reference]")
      ->type_name("NAME");
  command
      .add_option("--resamples", flags.resamples, "of the bootstrap and the randomisation [10000]")
      ->type_name("N")
      ->check(between(1, 10'000'000));
  command.add_option("--test-seed", flags.seed, "of the bootstrap and the randomisation [0]")
      ->type_name("N");
}

void check_eval_compare_flags(const EvalCompareFlags& flags) {
  if (flags.format != "json" && (flags.format == "plain" || !table_format(flags.format)))
    throw ConfigError("--format",
                      "wanted json, csv, markdown or latex, found \"" + flags.format + "\"");
  if (flags.length_of != "reference" && flags.length_of != "prompt")
    throw ConfigError("--length-of",
                      "wanted reference or prompt, found \"" + flags.length_of + "\"");
  if (flags.compare.size() == 1)
    throw ConfigError("--compare", "wanted two or more files, found 1; --pairs scores one alone");
}

std::string eval_compare(const EvalCompareFlags& flags, const std::vector<std::string>& files,
                         const PairFields& fields, const MetricSet& metrics,
                         const ScoringOptions& options) {
  CompareOptions compare;
  compare.resamples = flags.resamples;
  compare.seed = flags.seed;
  compare.buckets = flags.length_of == "prompt" ? LengthOf::kPrompt : LengthOf::kReference;
  const auto comparison =
      compare_files({files.begin(), files.end()}, fields, metrics, compare, options);
  if (!flags.report.empty()) write_file(flags.report, comparison_page(comparison, fields));
  if (flags.format == "json")
    return comparison_json(comparison)
               .dump(-1, ' ', false, ordered_json::error_handler_t::replace) +
           "\n";
  const auto format = *table_format(flags.format);
  auto text = format_table(scores_table(comparison), format);
  if (!comparison.comparisons.empty())
    text += "\n" + format_table(differences_table(comparison), format);
  return text;
}

nlohmann::ordered_json scores_json(const MetricSet& metrics, const ScoreSummary& summary) {
  auto scores = nlohmann::ordered_json::object();
  for (std::size_t i = 0; i < metrics.rouge.size(); ++i) {
    const auto& score = summary.rouge[i];
    scores[rouge_name(metrics.rouge[i])] = {
        {"precision", score.precision}, {"recall", score.recall}, {"f1", score.f1}};
  }
  if (summary.bleu)
    scores["bleu"] = {{"score", summary.bleu->score},
                      {"precisions", summary.bleu->precisions},
                      {"brevity_penalty", summary.bleu->brevity_penalty},
                      {"prediction_tokens", summary.bleu_counts.predicted_length},
                      {"reference_tokens", summary.bleu_counts.reference_length}};
  if (summary.chrf) scores["chrf"] = {{"score", *summary.chrf}};
  if (summary.chrf_words) scores["chrf++"] = {{"score", *summary.chrf_words}};
  return scores;
}

}  // namespace rwkvx
