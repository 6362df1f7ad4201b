#include "cli/eval_compare.h"

#include <CLI/CLI.hpp>
#include <cmath>

#include "cli/arguments.h"
#include "cli/eval_metrics.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/eval/comparison_report.h"

namespace rwkvx {
namespace {

using nlohmann::ordered_json;

ordered_json number(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

ordered_json means_json(const std::vector<MetricColumn>& columns,
                        const std::vector<MeanInterval>& means) {
  auto json = ordered_json::object();
  for (std::size_t i = 0; i < columns.size(); ++i)
    json[columns[i].name] = {
        {"mean", means[i].mean}, {"low", means[i].low}, {"high", means[i].high}};
  return json;
}

ordered_json comparison_json(const Comparison& comparison) {
  const auto& columns = comparison.columns;
  ordered_json json = {{"signature", comparison.signature}};
  json["systems"] = ordered_json::array();
  for (const auto& system : comparison.systems)
    json["systems"].push_back({{"name", system.name},
                               {"n", system.summary.n},
                               {"skipped", system.summary.skipped},
                               {"scores", scores_json(columns, system.summary)},
                               {"means", means_json(columns, system.means)}});
  json["comparisons"] = ordered_json::array();
  for (const auto& item : comparison.comparisons) {
    const auto& paired = item.paired;
    json["comparisons"].push_back({{"metric", columns[item.column].name},
                                   {"a", comparison.systems.front().name},
                                   {"b", comparison.systems[item.system].name},
                                   {"mean_a", paired.mean_a},
                                   {"mean_b", paired.mean_b},
                                   {"difference", paired.difference},
                                   {"low", paired.low},
                                   {"high", paired.high},
                                   {"effect_size", number(paired.effect_size)},
                                   {"p_bootstrap", paired.p_bootstrap},
                                   {"p_randomization", paired.p_randomization},
                                   {"p_holm", item.p_holm},
                                   {"samples", paired.samples}});
    if (const auto& one = item.right_by_one)
      json["comparisons"].back()["mcnemar"] = {
          {"only_a", one->only_a}, {"only_b", one->only_b}, {"p", one->p}};
  }
  json["by_length"] = ordered_json::array();
  for (const auto& bucket : comparison.buckets) {
    ordered_json row = {{"from", bucket.from}, {"to", bucket.to}, {"samples", bucket.samples}};
    row["means"] = ordered_json::array();
    for (const auto& means : bucket.means) row["means"].push_back(means_json(columns, means));
    json["by_length"].push_back(row);
  }
  return json;
}

// A flag whose values are the names of an enum.
template <NamedEnum Enum>
void add_enum_flag(CLI::App& command, const std::string& flag, Enum& value,
                   const std::string& help) {
  command
      .add_option_function<std::string>(
          flag, [&value, flag](const std::string& text) { value = read_enum<Enum>(text, flag); },
          help + " [" + enum_name(value) + "]")
      ->type_name("NAME");
}

}  // namespace

void add_eval_compare_flags(CLI::App& command, EvalCompareFlags& flags) {
  command
      .add_option("--compare", flags.compare,
                  "two or more files of JSON lines with the same references; each is compared with "
                  "the first")
      ->type_name("FILE...");
  add_enum_flag(command, "--length-of", flags.options.buckets,
                "also scores by the length of the: reference or prompt");
  command
      .add_option("--resamples", flags.options.resamples,
                  "resamples of the bootstrap and the randomization test [10000]")
      ->type_name("N")
      ->check(between(1, 10'000'000));
  command
      .add_option("--test-seed", flags.options.seed,
                  "seed of the bootstrap and the randomization test [0]")
      ->type_name("N");
}

void add_eval_output_flags(CLI::App& command, EvalCompareFlags& flags) {
  add_enum_flag(command, "--format", flags.format,
                "format of the result: json, csv, markdown or latex");
  command
      .add_option("--report", flags.report,
                  "with --compare, --system, --pairs or --text: also write an HTML page")
      ->type_name("FILE");
}

std::optional<TableFormat> table_format(EvalFormat format) {
  switch (format) {
    case EvalFormat::kJson:
      return std::nullopt;
    case EvalFormat::kCsv:
      return TableFormat::kCsv;
    case EvalFormat::kMarkdown:
      return TableFormat::kMarkdown;
    case EvalFormat::kLatex:
      return TableFormat::kLatex;
  }
  throw std::logic_error("table_format: not a format");
}

std::string eval_compare(const EvalCompareFlags& flags, const std::vector<std::string>& files,
                         const PairFields& fields, const MetricSet& metrics,
                         const ScoringOptions& options) {
  const auto comparison =
      compare_files({files.begin(), files.end()}, fields, metrics, flags.options, options);
  if (!flags.report.empty()) write_file(flags.report, comparison_page(comparison, fields));
  const auto format = table_format(flags.format);
  if (!format)
    return comparison_json(comparison)
               .dump(-1, ' ', false, ordered_json::error_handler_t::replace) +
           "\n";
  auto text = format_table(scores_table(comparison), *format);
  if (!comparison.comparisons.empty())
    text += "\n" + format_table(differences_table(comparison), *format);
  return text;
}

}  // namespace rwkvx
