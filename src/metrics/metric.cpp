#include "rwkvx/metrics/metric.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "rwkvx/base/error.h"
#include "rwkvx/base/nearest.h"

namespace rwkvx {
namespace {

std::string known_name(const MetricRow& row, std::string_view name) {
  if (row.known != nullptr) return row.known(name);
  return name == row.names ? std::string(name) : "";
}

std::string lower_case(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

[[noreturn]] void refuse_name(std::string_view name, const std::string& where) {
  // Without regard to case, so that ROUGE-l is nearest to rougeL and not to rouge1.
  std::vector<std::string> likely, lowered;
  for (const auto* row : metric_table()) {
    const auto names =
        row->likely != nullptr ? row->likely() : std::vector<std::string>{std::string(row->names)};
    likely.insert(likely.end(), names.begin(), names.end());
  }
  for (const auto& one : likely) lowered.push_back(lower_case(one));
  const auto meant = nearest(lower_case(std::string(name)), lowered);
  const auto at = std::find(lowered.begin(), lowered.end(), meant);
  throw ConfigError(
      where, "expected " + metric_names_text(" or ") + ", got \"" + std::string(name) + "\"" +
                 (at == lowered.end()
                      ? ""
                      : "; did you mean \"" +
                            likely[static_cast<std::size_t>(at - lowered.begin())] + "\"?"));
}

template <class Scores>
std::vector<MetricScore> all_scores(const MetricSet& metrics, std::span<const double> statistics,
                                    const Scores& scores_of) {
  std::vector<MetricScore> all;
  for (const auto& metric : metrics) {
    auto scores = scores_of(*metric, statistics.first(metric->statistics()));
    statistics = statistics.subspan(metric->statistics());
    for (auto& score : scores) {
      if (score.parts.empty()) score.parts = {{"score", score.value}};
      all.push_back(std::move(score));
    }
  }
  return all;
}

}  // namespace

const double* MetricScore::part(std::string_view name) const {
  for (const auto& [key, number] : parts)
    if (key == name) return std::get_if<double>(&number);
  return nullptr;
}

std::vector<MetricColumn> metric_columns(const MetricSet& metrics) {
  std::vector<MetricColumn> columns;
  for (const auto& metric : metrics)
    columns.insert(columns.end(), metric->columns().begin(), metric->columns().end());
  return columns;
}

std::size_t metric_statistics(const MetricSet& metrics) {
  std::size_t count = 0;
  for (const auto& metric : metrics) count += metric->statistics();
  return count;
}

std::vector<MetricScore> sample_scores(const MetricSet& metrics,
                                       std::span<const double> statistics) {
  return all_scores(metrics, statistics, [](const Metric& metric, std::span<const double> own) {
    return metric.sample_scores(own);
  });
}

std::vector<MetricScore> set_scores(const MetricSet& metrics, std::span<const double> sums,
                                    std::uint64_t samples) {
  return all_scores(metrics, sums, [&](const Metric& metric, std::span<const double> own) {
    return metric.set_scores(own, samples);
  });
}

const MetricRow* metric_row(std::string_view name) {
  for (const auto* row : metric_table())
    if (!known_name(*row, name).empty()) return row;
  return nullptr;
}

std::string metric_names_text(std::string_view last) {
  std::string text;
  const auto table = metric_table();
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (i > 0) text += i + 1 == table.size() ? last : ", ";
    text += table[i]->names;
  }
  return text;
}

MetricSet parse_metrics(std::string_view names, const nlohmann::json& settings,
                        const std::string& where) {
  const auto table = metric_table();
  std::vector<std::vector<std::string>> chosen(table.size());
  for (std::size_t begin = 0; begin <= names.size();) {
    const auto end = std::min(names.find(',', begin), names.size());
    auto name = names.substr(begin, end - begin);
    begin = end + 1;
    while (name.starts_with(' ')) name.remove_prefix(1);
    while (name.ends_with(' ')) name.remove_suffix(1);
    const auto* row = metric_row(name);
    if (row == nullptr) refuse_name(name, where);
    auto& own = chosen[static_cast<std::size_t>(std::find(table.begin(), table.end(), row) -
                                                table.begin())];
    const auto known = known_name(*row, name);
    if (std::find(own.begin(), own.end(), known) == own.end()) own.push_back(known);
  }
  MetricSet metrics;
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (chosen[i].empty()) continue;
    const std::string title(table[i]->title);
    metrics.push_back(table[i]->make(
        chosen[i], settings.contains(title) ? settings.at(title) : nlohmann::json::object()));
  }
  return metrics;
}

}  // namespace rwkvx
