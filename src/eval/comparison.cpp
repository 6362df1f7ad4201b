#include "rwkvx/eval/comparison.h"

#include <algorithm>
#include <bit>
#include <map>
#include <string_view>
#include <unordered_map>

#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"
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
  system.summary.signature = "metrics:acc,acc_norm,acc_bytes,acc_tokens|version:rwkvx-" + version();
  return system;
}

RightByOne right_by_one(const std::vector<double>& a, const std::vector<double>& b) {
  RightByOne result;
  for (std::size_t i = 0; i < a.size(); ++i) {
    result.only_a += a[i] > b[i] ? 1 : 0;
    result.only_b += b[i] > a[i] ? 1 : 0;
  }
  result.p = mcnemar_p(result.only_a, result.only_b);
  return result;
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

// Of samples too few for an interval the mean alone.
MeanInterval interval_of(const std::vector<double>& values, const CompareOptions& options) {
  if (values.size() < 2) return {values[0], values[0], values[0]};
  return mean_interval(values, options.resamples, options.seed);
}

std::vector<LengthBucket> buckets_of(const Comparison& result) {
  const auto& first = result.systems.front();
  const auto& words =
      result.options.buckets == LengthOf::kPrompt ? first.prompt_words : first.reference_words;
  std::map<int, std::vector<std::size_t>> members;  // by the number of bits
  for (std::size_t i = 0; i < words.size(); ++i) members[std::bit_width(words[i])].push_back(i);
  std::vector<LengthBucket> buckets;
  for (const auto& [bits, samples] : members) {
    LengthBucket bucket;
    bucket.from = bits == 0 ? 0 : std::uint64_t{1} << (bits - 1);
    bucket.to = bits == 0 ? 0 : 2 * bucket.from - 1;
    bucket.samples = samples.size();
    for (const auto& system : result.systems) {
      auto& means = bucket.means.emplace_back();
      for (const auto& values : system.values) {
        std::vector<double> some;
        for (const auto i : samples) some.push_back(values[i]);
        means.push_back(interval_of(some, result.options));
      }
    }
    buckets.push_back(std::move(bucket));
  }
  return buckets;
}

}  // namespace

Comparison compare_files(const std::vector<std::filesystem::path>& files, const PairFields& fields,
                         const MetricSet& metrics, const CompareOptions& options,
                         const ScoringOptions& scoring) {
  Comparison result;
  result.of_choices = holds_choice_outcomes(files.front());
  result.columns = result.of_choices ? choice_columns() : metric_columns(metrics);
  result.options = options;
  auto named = fields;
  if (options.buckets == LengthOf::kPrompt && named.prompt.empty()) named.prompt = "prompt";
  for (const auto& file : files) {
    if (holds_choice_outcomes(file) != result.of_choices)
      throw DataError(file.string(),
                      std::string("expected ") +
                          (result.of_choices ? "outcomes of eval --choices" : "pairs") + " as in " +
                          files.front().string());
    result.systems.push_back(result.of_choices ? score_choice_file(file)
                                               : score_file(file, named, metrics, scoring));
    auto& system = result.systems.back();
    check_same_samples(result.systems.front(), system);
    for (const auto& values : system.values) system.means.push_back(interval_of(values, options));
  }
  const auto& first = result.systems.front();
  std::vector<double> p_values;
  for (std::size_t k = 1; k < result.systems.size(); ++k) {
    if (first.lines.size() < 2)
      throw DataError(first.name, "expected at least 2 pairs to compare systems by, got 1");
    for (std::size_t i = 0; i < result.columns.size(); ++i) {
      const auto paired = compare_paired(first.values[i], result.systems[k].values[i],
                                         options.resamples, options.seed);
      result.comparisons.push_back({i, k, paired, 1});
      if (result.of_choices)
        result.comparisons.back().right_by_one =
            right_by_one(first.values[i], result.systems[k].values[i]);
      p_values.push_back(paired.p_randomization);
    }
  }
  const auto adjusted = holm_adjusted(p_values);
  for (std::size_t i = 0; i < adjusted.size(); ++i) result.comparisons[i].p_holm = adjusted[i];
  if (!result.of_choices) result.buckets = buckets_of(result);
  result.signature =
      first.summary.signature +
      "|interval:95,bootstrap-percentile|resamples:" + std::to_string(options.resamples) +
      "|seed:" + std::to_string(options.seed) +
      (result.of_choices ? "" : std::string("|length:") + enum_name(options.buckets)) +
      (result.comparisons.empty()
           ? ""
           : "|tests:paired-bootstrap,sign-flip" +
                 std::string(result.of_choices ? ",mcnemar-exact" : "") + "|adjust:holm");
  return result;
}

}  // namespace rwkvx
