#include "rwkvx/study/statistics.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "rwkvx/base/error.h"
#include "rwkvx/metrics/mean.h"

namespace rwkvx {
namespace {

void check_finite(std::span<const double> values, const char* what) {
  if (values.empty()) throw DataError(what, "wanted one or more values, found none");
  for (const double value : values)
    if (!std::isfinite(value)) throw DataError(what, "holds a value that is not finite");
}

// A number below n. std::uniform_int_distribution differs between standard libraries.
std::size_t below(std::mt19937_64& random, std::size_t n) {
  return static_cast<std::size_t>((random() >> 11) % n);
}

double resampled_mean(std::span<const double> values, std::mt19937_64& random) {
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) sum += values[below(random, values.size())];
  return sum / static_cast<double>(values.size());
}

// The value below which `share` of the sorted values lie, interpolated.
double percentile(const std::vector<double>& sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto first = static_cast<std::size_t>(at);
  const auto second = std::min(first + 1, sorted.size() - 1);
  return std::lerp(sorted[first], sorted[second], at - static_cast<double>(first));
}

double slope(const std::vector<double>& x, const std::vector<double>& y) {
  const double mean_x = sample_mean(x), mean_y = sample_mean(y);
  double xy = 0, xx = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean_x) * (y[i] - mean_y);
    xx += (x[i] - mean_x) * (x[i] - mean_x);
  }
  return xy / xx;
}

}  // namespace

double sample_mean(std::span<const double> values) { return compensated_mean(values); }

double sample_deviation(std::span<const double> values) {
  if (values.size() < 2) return 0;
  const double mean = sample_mean(values);
  CompensatedSum sum;
  for (const double value : values) sum.add((value - mean) * (value - mean));
  return std::sqrt(sum.value() / static_cast<double>(values.size() - 1));
}

double sample_median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

GroupComparison compare_groups(std::span<const double> a, std::span<const double> b,
                               std::int64_t resamples, std::uint64_t seed) {
  check_finite(a, "the first group");
  check_finite(b, "the second group");
  if (resamples < 1) throw DataError("resamples", "wanted one or more");
  GroupComparison result;
  result.samples_a = static_cast<std::int64_t>(a.size());
  result.samples_b = static_cast<std::int64_t>(b.size());
  result.mean_a = sample_mean(a);
  result.mean_b = sample_mean(b);
  result.difference = result.mean_b - result.mean_a;
  const double n = static_cast<double>(a.size() + b.size());
  const double sum_a = std::pow(sample_deviation(a), 2) * static_cast<double>(a.size() - 1);
  const double sum_b = std::pow(sample_deviation(b), 2) * static_cast<double>(b.size() - 1);
  const double pooled = n > 2 ? std::sqrt((sum_a + sum_b) / (n - 2)) : 0;
  result.effect_size = pooled > 0 ? result.difference / pooled : 0;

  std::mt19937_64 random(seed);
  std::vector<double> draws;
  for (std::int64_t i = 0; i < resamples; ++i)
    draws.push_back(resampled_mean(b, random) - resampled_mean(a, random));
  std::sort(draws.begin(), draws.end());
  result.low = percentile(draws, 0.025);
  result.high = percentile(draws, 0.975);

  std::vector<double> all(a.begin(), a.end());
  all.insert(all.end(), b.begin(), b.end());
  double total = 0, largest = 0;
  for (const double value : all) {
    total += value;
    largest = std::max(largest, std::abs(value));
  }
  // Rounding must not make two equal divisions look different.
  const double wanted = std::abs(result.difference) - 1e-12 * largest;
  const auto size = static_cast<double>(a.size());
  std::int64_t hits = 0;
  for (std::int64_t i = 0; i < resamples; ++i) {
    double sum = 0;  // of a random group of a's size: the front of a partial shuffle
    for (std::size_t j = 0; j < a.size(); ++j) {
      std::swap(all[j], all[j + below(random, all.size() - j)]);
      sum += all[j];
    }
    const double difference = (total - sum) / (n - size) - sum / size;
    hits += std::abs(difference) >= wanted ? 1 : 0;
  }
  result.p_permutation = static_cast<double>(hits + 1) / static_cast<double>(resamples + 1);
  return result;
}

ExponentFit fit_exponent(std::span<const double> sizes,
                         const std::vector<std::vector<double>>& seconds, std::int64_t resamples,
                         std::uint64_t seed) {
  if (sizes.size() < 2 || sizes.size() != seconds.size())
    throw DataError("exponent", "wanted times at two or more sizes");
  std::vector<double> x, y;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    check_finite(seconds[i], "times");
    for (const double value : seconds[i])
      if (!(value > 0) || !(sizes[i] > 0))
        throw DataError("exponent", "wanted sizes and times above 0");
    x.push_back(std::log(sizes[i]));
    y.push_back(std::log(sample_median(seconds[i])));
  }
  ExponentFit fit;
  fit.exponent = slope(x, y);
  fit.first_size = sizes.front();
  fit.last_size = sizes.back();
  std::mt19937_64 random(seed);
  std::vector<double> draws, drawn;
  for (std::int64_t i = 0; i < resamples; ++i) {
    for (std::size_t k = 0; k < seconds.size(); ++k) {
      drawn.clear();
      for (std::size_t j = 0; j < seconds[k].size(); ++j)
        drawn.push_back(seconds[k][below(random, seconds[k].size())]);
      y[k] = std::log(sample_median(drawn));
    }
    draws.push_back(slope(x, y));
  }
  std::sort(draws.begin(), draws.end());
  fit.low = draws.empty() ? fit.exponent : percentile(draws, 0.025);
  fit.high = draws.empty() ? fit.exponent : percentile(draws, 0.975);
  return fit;
}

}  // namespace rwkvx
