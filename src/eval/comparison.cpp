#include "rwkvx/eval/comparison.h"

#include <algorithm>
#include <bit>
#include <map>

#include "eval/system_scores.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"
#include "rwkvx/metrics/proportion.h"

namespace rwkvx {
namespace {

RightByOne right_by_one(const std::vector<double>& a, const std::vector<double>& b) {
  RightByOne result;
  for (std::size_t i = 0; i < a.size(); ++i) {
    result.only_a += a[i] > b[i] ? 1 : 0;
    result.only_b += b[i] > a[i] ? 1 : 0;
  }
  result.p = mcnemar_p(result.only_a, result.only_b);
  return result;
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
  auto named = fields;
  if (options.buckets == LengthOf::kPrompt && named.prompt.empty()) named.prompt = "prompt";
  const SampleScorer scorer(files.front(), named, metrics, scoring);
  result.of_choices = scorer.of_choices();
  result.columns = scorer.columns();
  result.options = options;
  for (const auto& file : files) {
    result.systems.push_back(scorer.score(file));
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
