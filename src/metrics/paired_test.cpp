#include "rwkvx/metrics/paired_test.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "rwkvx/base/error.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/metrics/bootstrap.h"

namespace rwkvx {
namespace {

constexpr double kConfidence = 0.95;

NumpyDraws draws_of(std::uint64_t seed, std::uint32_t purpose) {
  return NumpyDraws(static_cast<std::uint32_t>(seed ^ (seed >> 32)) + purpose * 0x9e3779b9U);
}

void check(std::span<const double> scores, std::int64_t resamples) {
  if (scores.size() < 2 || scores.size() > std::numeric_limits<std::uint32_t>::max())
    throw DataError("paired test", "expected the scores of at least 2 samples, got " +
                                       std::to_string(scores.size()));
  if (resamples < 1)
    throw DataError("paired test",
                    "expected at least 1 resample, got " + std::to_string(resamples));
  for (std::size_t i = 0; i < scores.size(); ++i)
    if (!std::isfinite(scores[i]))
      throw DataError("paired test",
                      "the score of sample " + std::to_string(i + 1) + " is not a finite number");
}

// Sorted means of resamples.
std::vector<double> resampled_means(std::span<const double> values, std::int64_t resamples,
                                    NumpyDraws draws) {
  const auto count = static_cast<std::uint32_t>(values.size());
  std::vector<double> means(static_cast<std::size_t>(resamples));
  for (auto& mean : means) {
    double sum = 0;
    for (std::uint32_t i = 0; i < count; ++i) sum += values[draws.below(count)];
    mean = sum / count;
  }
  std::sort(means.begin(), means.end());
  return means;
}

// How many of `resamples` random choices of signs give a sum at least as far from 0 as `sum`.
std::int64_t sign_flip_hits(std::span<const double> values, double least, std::int64_t resamples,
                            NumpyDraws draws) {
  std::int64_t hits = 0;
  for (std::int64_t k = 0; k < resamples; ++k) {
    double sum = 0;
    for (std::size_t i = 0; i < values.size(); i += 32) {
      auto signs = draws.bits();
      const auto end = std::min(values.size(), i + 32);
      for (std::size_t j = i; j < end; ++j, signs >>= 1)
        sum += values[j] * (1.0 - 2.0 * static_cast<double>(signs & 1U));
    }
    hits += std::abs(sum) >= least;
  }
  return hits;
}

double share(std::int64_t hits, std::int64_t resamples) {
  return static_cast<double>(hits + 1) / static_cast<double>(resamples + 1);
}

}  // namespace

PairedComparison compare_paired(std::span<const double> a, std::span<const double> b,
                                std::int64_t resamples, std::uint64_t seed) {
  if (a.size() != b.size())
    throw DataError("paired test", "expected two scores per sample, got " +
                                       std::to_string(a.size()) + " and " +
                                       std::to_string(b.size()));
  check(a, resamples);
  check(b, resamples);
  std::vector<double> differences(a.size());
  double magnitude = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    differences[i] = b[i] - a[i];
    magnitude += std::abs(differences[i]);
  }
  const auto count = static_cast<double>(a.size());

  PairedComparison result;
  result.samples = static_cast<std::int64_t>(a.size());
  result.mean_a = compensated_mean(a);
  result.mean_b = compensated_mean(b);
  result.difference = compensated_mean(differences);
  double squares = 0;
  for (const double difference : differences)
    squares += (difference - result.difference) * (difference - result.difference);
  const double deviation = std::sqrt(squares / (count - 1));
  // Sums of equal terms in another order differ by rounding and count as equal.
  const double rounding = 1e-12 * magnitude;
  if (deviation * count > rounding)
    result.effect_size = result.difference / deviation;
  else if (magnitude > 0)
    result.effect_size = std::copysign(std::numeric_limits<double>::infinity(), result.difference);

  const auto means = resampled_means(differences, resamples, draws_of(seed, 1));
  result.low = quantile(means, (1 - kConfidence) / 2);
  result.high = quantile(means, (1 + kConfidence) / 2);
  const double away = std::abs(result.difference) - rounding / count;
  const auto beyond = std::count_if(means.begin(), means.end(), [&](double mean) {
    return std::abs(mean - result.difference) >= away;
  });
  result.p_bootstrap = share(beyond, resamples);
  const double least = std::abs(result.difference) * count - rounding;
  result.p_randomization =
      share(sign_flip_hits(differences, least, resamples, draws_of(seed, 2)), resamples);
  return result;
}

MeanInterval mean_interval(std::span<const double> scores, std::int64_t resamples,
                           std::uint64_t seed) {
  check(scores, resamples);
  const auto means = resampled_means(scores, resamples, draws_of(seed, 1));
  return {compensated_mean(scores), quantile(means, (1 - kConfidence) / 2),
          quantile(means, (1 + kConfidence) / 2)};
}

std::vector<double> holm_adjusted(std::span<const double> p_values) {
  std::vector<std::size_t> order(p_values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t i, std::size_t j) { return p_values[i] < p_values[j]; });
  std::vector<double> adjusted(p_values.size());
  double largest = 0;
  for (std::size_t k = 0; k < order.size(); ++k) {
    const double factor = static_cast<double>(order.size() - k);
    largest = std::max(largest, std::min(1.0, factor * p_values[order[k]]));
    adjusted[order[k]] = largest;
  }
  return adjusted;
}

}  // namespace rwkvx
