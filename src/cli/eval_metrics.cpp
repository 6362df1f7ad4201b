#include "cli/eval_metrics.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "cli/arguments.h"
#include "cli/settings.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/metrics/rouge_metric.h"

namespace rwkvx {
namespace {

template <class Visit>
void for_each_setting(const Visit& visit) {
  for (const auto* row : metric_table())
    if (row->settings != nullptr)
      for (const auto& setting : row->settings()) visit(*row, setting);
}

}  // namespace

void add_eval_metric_flags(CLI::App& command, EvalMetricFlags& flags) {
  command
      .add_option("--metrics", flags.metrics,
                  "of " + metric_names_text(", ") + " [" + flags.metrics + "]")
      ->type_name("LIST");
  for_each_setting([&](const MetricRow& row, const FieldInfo& setting) {
    auto& given = flags.settings[std::string(row.title)];
    if (given.is_null()) given = nlohmann::json::object();
    add_setting_flag(command, setting, given);
  });
  add_old_name(command, "--tokenizer", "--rouge-tokenizer");
}

std::vector<std::string> eval_metric_flag_names() {
  std::vector<std::string> names = {"--metrics"};
  for_each_setting([&](const MetricRow&, const FieldInfo& setting) {
    names.push_back(flag_name(setting.path));
  });
  return names;
}

std::vector<std::pair<std::string, std::string>> eval_metric_texts(const EvalMetricFlags& flags) {
  std::vector<std::pair<std::string, std::string>> texts;
  for_each_setting([&](const MetricRow& row, const FieldInfo& setting) {
    const auto& given = flags.settings.at(std::string(row.title));
    if (setting.type == "text" && setting.allowed.empty() && given.contains(setting.path))
      texts.emplace_back(flag_name(setting.path), given[setting.path].get<std::string>());
  });
  return texts;
}

MetricSet read_metrics(const CLI::App& command, const EvalMetricFlags& flags) {
  const auto metrics = [&] {
    try {
      return parse_metrics(flags.metrics, flags.settings, "--metrics");
    } catch (const ConfigError& error) {
      std::vector<std::string> names;
      for_each_setting(
          [&](const MetricRow&, const FieldInfo& setting) { names.push_back(setting.path); });
      throw with_flag_name(error, names);
    }
  }();
  const auto columns = metric_columns(metrics);
  for_each_setting([&](const MetricRow& row, const FieldInfo& setting) {
    const auto of_row = [&](const auto& column) { return metric_row(column.name) == &row; };
    if (std::none_of(columns.begin(), columns.end(), of_row))
      refuse_idle(command, {flag_name(setting.path).c_str()},
                  "is of " + std::string(row.title) + ", which --metrics leaves out");
  });
  return metrics;
}

RougeTokens read_rouge_tokens(const EvalMetricFlags& flags) {
  return rouge_tokens(config_from_json<RougeSettings>(flags.settings.at("ROUGE"), ""));
}

nlohmann::ordered_json scores_json(const std::vector<MetricColumn>& columns,
                                   const ScoreSummary& summary) {
  auto scores = nlohmann::ordered_json::object();
  for (std::size_t i = 0; i < columns.size(); ++i)
    for (const auto& [part, value] : summary.scores[i].parts)
      std::visit([&](const auto& number) { scores[columns[i].name][part] = number; }, value);
  return scores;
}

void print_scores(const std::vector<MetricColumn>& columns, const ScoreSummary& summary) {
  const auto has_precision = [](const MetricScore& score) {
    return score.part("precision") != nullptr && score.part("recall") != nullptr;
  };
  std::fprintf(stderr, "%s pairs, %%\n", count_text(static_cast<std::int64_t>(summary.n)).c_str());
  if (std::any_of(summary.scores.begin(), summary.scores.end(), has_precision))
    std::fprintf(stderr, "%-10s %9s %9s %9s\n", "", "precision", "recall", "f1");
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const auto& [name, percent, of_set] = columns[i];
    const auto& score = summary.scores[i];
    if (has_precision(score))
      std::fprintf(stderr, "%-10s %9.2f %9.2f %9.2f\n", name.c_str(),
                   percent * *score.part("precision"), percent * *score.part("recall"),
                   percent * score.value);
    else
      std::fprintf(stderr, "%-10s %29.2f\n", name.c_str(), percent * score.value);
  }
}

}  // namespace rwkvx
