// The metrics of `rwkvx eval`: their flags, from the table of metrics, and their scores as printed.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "rwkvx/eval/scoring.h"

namespace CLI {
class App;
}

namespace rwkvx {

struct EvalMetricFlags {
  std::string metrics = "rouge1,rouge2,rougeL,rougeLsum";
  nlohmann::json settings = nlohmann::json::object();  // by metric, those that were given
};

// --metrics, and a flag for every setting of every metric. `flags` must outlive the parsing.
void add_eval_metric_flags(CLI::App& command, EvalMetricFlags& flags);
// The names of those flags.
std::vector<std::string> eval_metric_flag_names();
// The settings that were given as any text, which may name a file: flag and value.
std::vector<std::pair<std::string, std::string>> eval_metric_texts(const EvalMetricFlags& flags);
// Throws ConfigError for names and settings that there are not, and for settings of metrics that
// are left out.
MetricSet read_metrics(const CLI::App& command, const EvalMetricFlags& flags);
// ROUGE's tokens, in which diversity is measured.
RougeTokens read_rouge_tokens(const EvalMetricFlags& flags);

// The scores of a set as JSON.
nlohmann::ordered_json scores_json(const std::vector<MetricColumn>& columns,
                                   const ScoreSummary& summary);
// The same on standard error for the eyes, in percent.
void print_scores(const std::vector<MetricColumn>& columns, const ScoreSummary& summary);

}  // namespace rwkvx
