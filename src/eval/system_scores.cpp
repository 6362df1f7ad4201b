#include "eval/system_scores.h"

#include <functional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "rwkvx/base/error.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/base/version.h"
#include "rwkvx/eval/choices.h"

namespace rwkvx {
namespace {

SystemScores score_file(const std::filesystem::path& file, const PairFields& fields,
                        const MetricSet& metrics, const ScoringOptions& scoring) {
  SystemScores system;
  system.name = file.string();
  system.values.resize(metric_columns(metrics).size());
  auto options = scoring;
  options.each = [&](const SampleScores& sample) {
    const auto scores = sample_scores(metrics, sample.statistics);
    for (std::size_t i = 0; i < scores.size(); ++i) system.values[i].push_back(scores[i].value);
    system.lines.push_back(sample.line);
    system.reference_words.push_back(sample.reference_words);
    system.prompt_words.push_back(sample.prompt_words);
    system.references_hash.push_back(sample.references_hash);
    system.ids.push_back(sample.id);
  };
  const auto source = pairs_from_json(file, fields);
  system.summary = score_pairs(*source, metrics, options);
  return system;
}

// The accuracies of outcomes of eval_choices().
std::vector<MetricColumn> choice_columns() {
  std::vector<MetricColumn> columns;
  for (const auto rule : kChoiceRules) columns.push_back({std::string(rule), /*percent=*/100});
  return columns;
}

SystemScores score_choice_file(const std::filesystem::path& file) {
  SystemScores system;
  system.name = file.string();
  system.values.resize(kChoiceRules.size());
  for (const auto& outcome : read_choice_outcomes(file)) {
    const auto best = best_choices(outcome.choices);
    for (std::size_t rule = 0; rule < best.size(); ++rule)
      system.values[rule].push_back(best[rule] == outcome.answer ? 1 : 0);
    system.lines.push_back(outcome.line);
    system.references_hash.push_back(std::hash<std::string>()(outcome.item));
    system.ids.push_back(outcome.id);
  }
  system.reference_words.resize(system.lines.size());
  system.prompt_words.resize(system.lines.size());
  system.summary.n = system.lines.size();
  for (const auto& values : system.values) {
    const double share = compensated_mean(values);
    system.summary.scores.push_back({share, {{"score", share}}});
  }
  std::string names;
  for (const auto rule : kChoiceRules) names += (names.empty() ? "" : ",") + std::string(rule);
  system.summary.signature = "metrics:" + names + "|version:rwkvx-" + version();
  return system;
}

// Where each sample's id stands; none where not every sample has an id of its own.
std::unordered_map<std::string_view, std::size_t> places_of_ids(const SystemScores& system) {
  std::unordered_map<std::string_view, std::size_t> places;
  for (std::size_t i = 0; i < system.ids.size(); ++i)
    if (system.ids[i].empty() || !places.emplace(system.ids[i], i).second) return {};
  return places;
}

std::string line_of(const SystemScores& system, std::size_t sample) {
  return system.name + ":" + std::to_string(system.lines[sample]);
}

template <class Value>
void reorder(std::vector<Value>& values, const std::vector<std::size_t>& order) {
  std::vector<Value> ordered;
  ordered.reserve(order.size());
  for (const auto i : order) ordered.push_back(std::move(values[i]));
  values = std::move(ordered);
}

// Puts the samples of `other` into the order of the first system's, by their ids.
void order_by_ids(const SystemScores& first, SystemScores& other) {
  if (first.ids == other.ids) return;
  const auto places = places_of_ids(other);
  if (places.empty() || places_of_ids(first).empty()) {
    for (std::size_t i = 0; i < first.ids.size(); ++i)
      if (!first.ids[i].empty() && !other.ids[i].empty() && first.ids[i] != other.ids[i])
        throw DataError(line_of(other, i), "has the id " + other.ids[i] + " where " +
                                               line_of(first, i) + " has " + first.ids[i] +
                                               "; expected the same order, as not every sample "
                                               "has a unique id");
    return;
  }
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < first.ids.size(); ++i) {
    const auto found = places.find(first.ids[i]);
    if (found == places.end())
      throw DataError(other.name, "has no sample with the id " + first.ids[i] + " of " +
                                      line_of(first, i) + "; expected the same samples in both");
    order.push_back(found->second);
  }
  for (auto& values : other.values) reorder(values, order);
  for (auto* numbers :
       {&other.lines, &other.reference_words, &other.prompt_words, &other.references_hash})
    reorder(*numbers, order);
  reorder(other.ids, order);
}

}  // namespace

SampleScorer::SampleScorer(const std::filesystem::path& first, PairFields fields,
                           const MetricSet& metrics, const ScoringOptions& scoring)
    : first_(first),
      fields_(std::move(fields)),
      metrics_(metrics),
      scoring_(scoring),
      of_choices_(holds_choice_outcomes(first)) {}

std::vector<MetricColumn> SampleScorer::columns() const {
  return of_choices_ ? choice_columns() : metric_columns(metrics_);
}

SystemScores SampleScorer::score(const std::filesystem::path& file) const {
  if (holds_choice_outcomes(file) != of_choices_)
    throw DataError(file.string(), std::string("expected ") +
                                       (of_choices_ ? "outcomes of eval --choices" : "pairs") +
                                       " as in " + first_.string());
  return of_choices_ ? score_choice_file(file) : score_file(file, fields_, metrics_, scoring_);
}

void check_same_samples(const SystemScores& first, SystemScores& other) {
  const auto count = [](const SystemScores& system) {
    return std::to_string(system.lines.size()) + (system.lines.size() == 1 ? " pair" : " pairs");
  };
  if (first.lines.size() != other.lines.size())
    throw DataError(other.name, "has " + count(other) + " but " + first.name + " has " +
                                    count(first) + "; expected the same samples in both");
  order_by_ids(first, other);
  for (std::size_t i = 0; i < first.lines.size(); ++i)
    if (first.references_hash[i] != other.references_hash[i])
      throw DataError(line_of(other, i), "the references differ from those of " +
                                             line_of(first, i) +
                                             "; expected the same samples in both");
}

}  // namespace rwkvx
