#include "rwkvx/metrics/seed_test.h"

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

constexpr double kConfidence = 0.95, kPower = 0.8;
constexpr std::int64_t kMostWays = 20000;   // of dealing the seeds, all of which are tried
constexpr std::int64_t kMostSeeds = 10000;  // that seeds_needed() looks at

// One group of seeds whose mean has the weight `sign` in the difference.
struct Group {
  const SeedScores& scores;
  double sign;
};

void check(const SeedScores& scores, std::size_t samples) {
  if (scores.size() < 2)
    throw DataError("seeds", "expected at least 2 seeds per system, got " +
                                 std::to_string(scores.size()) +
                                 "; with one, nothing is known of how much seeds vary");
  for (const auto& one : scores) {
    if (one.size() != samples || samples < 2 || samples > std::numeric_limits<std::uint32_t>::max())
      throw DataError("seeds", "expected at least 2 samples, the same of every seed, got " +
                                   std::to_string(one.size()) + " and " + std::to_string(samples));
    for (const double score : one)
      if (!std::isfinite(score)) throw DataError("seeds", "a score is not a finite number");
  }
}

double variance(std::span<const double> values) {
  const double deviation = sample_deviation(values);
  return deviation * deviation;
}

std::vector<double> seed_means(const SeedScores& scores) {
  std::vector<double> means;
  for (const auto& one : scores) means.push_back(compensated_mean(one));
  return means;
}

std::vector<double> sample_means(const SeedScores& scores) {
  std::vector<double> means(scores.front().size());
  for (const auto& one : scores)
    for (std::size_t i = 0; i < one.size(); ++i)
      means[i] += one[i] / static_cast<double>(scores.size());
  return means;
}

// The variance of single scores that neither their seed nor their sample explains.
double noise_variance(const SeedScores& scores) {
  const auto by_seed = seed_means(scores), by_sample = sample_means(scores);
  const double mean = compensated_mean(by_seed);
  CompensatedSum squares;
  for (std::size_t s = 0; s < scores.size(); ++s)
    for (std::size_t i = 0; i < by_sample.size(); ++i) {
      const double rest = scores[s][i] - by_seed[s] - by_sample[i] + mean;
      squares.add(rest * rest);
    }
  return squares.value() /
         (static_cast<double>(scores.size() - 1) * static_cast<double>(by_sample.size() - 1));
}

// What the samples add to the variance of the groups' sum beyond the noise that the seeds' means
// have.
double sample_variance(std::span<const Group> groups) {
  const auto N = groups[0].scores.front().size();
  std::vector<double> differences(N);
  double noise = 0;
  for (const auto& [scores, sign] : groups) {
    const auto means = sample_means(scores);
    for (std::size_t i = 0; i < N; ++i) differences[i] += sign * means[i];
    noise += noise_variance(scores) / static_cast<double>(scores.size());
  }
  return std::max(0.0, (variance(differences) - noise) / static_cast<double>(N));
}

struct Spread {
  double variance = 0, degrees = 0;
};

// Of the difference where the systems have so many seeds; a variance of 0 has no degrees.
Spread spread_of(const SeedComparison& one, std::int64_t seeds_a, std::int64_t seeds_b) {
  double sum = 0, squares = 0;
  const auto add = [&](double part, std::int64_t degrees) {
    sum += part;
    squares += part * part / static_cast<double>(degrees);
  };
  if (!one.paired) add(one.seed_variance_a / static_cast<double>(seeds_a), seeds_a - 1);
  add(one.seed_variance_b / static_cast<double>(seeds_b), seeds_b - 1);
  add(one.sample_variance, one.samples - 1);
  return {sum, squares > 0 ? sum * sum / squares : 1};
}

// How far differences of resampled seeds and samples lie from the observed one, sorted.
std::vector<double> resampled(std::span<const Group> groups, double difference,
                              std::int64_t resamples, NumpyDraws draws) {
  const auto N = static_cast<std::uint32_t>(groups[0].scores.front().size());
  std::vector<double> away(static_cast<std::size_t>(resamples));
  std::vector<double> times(N);
  for (auto& one : away) {
    std::fill(times.begin(), times.end(), 0.0);
    for (std::uint32_t i = 0; i < N; ++i) times[draws.below(N)] += 1;
    double sum = 0;
    for (const auto& [scores, sign] : groups) {
      const auto S = static_cast<std::uint32_t>(scores.size());
      std::vector<double> drawn(S);
      for (std::uint32_t s = 0; s < S; ++s) drawn[draws.below(S)] += 1;
      for (std::uint32_t s = 0; s < S; ++s)
        if (drawn[s] > 0)
          sum += sign * drawn[s] / S *
                 std::inner_product(times.begin(), times.end(), scores[s].begin(), 0.0);
    }
    one = std::abs(sum / N - difference);
  }
  std::sort(away.begin(), away.end());
  return away;
}

double binomial(std::size_t n, std::size_t k) {
  return std::round(std::exp(std::lgamma(static_cast<double>(n) + 1) -
                             std::lgamma(static_cast<double>(k) + 1) -
                             std::lgamma(static_cast<double>(n - k) + 1)));
}

// Calls use() with every way, or `resamples` random ones, of dealing the values to two groups
// (true: of b), or of swapping pairs (true: swapped). Returns whether these are all ways.
template <class Use>
bool for_each_way(std::size_t count, std::size_t of_b, bool pairs, std::int64_t resamples,
                  NumpyDraws& draws, const Use& use) {
  std::vector<bool> way(count);
  if (pairs && count < 14) {
    for (std::uint32_t bits = 0; bits < (1U << count); ++bits) {
      for (std::size_t i = 0; i < count; ++i) way[i] = (bits >> i) & 1U;
      use(way);
    }
    return true;
  }
  if (!pairs && binomial(count, of_b) <= static_cast<double>(kMostWays)) {
    std::fill(way.end() - static_cast<std::ptrdiff_t>(of_b), way.end(), true);
    do use(way);
    while (std::next_permutation(way.begin(), way.end()));
    return true;
  }
  for (std::int64_t k = 0; k < resamples; ++k) {
    if (pairs) {
      for (std::size_t i = 0; i < count; ++i) way[i] = draws.below(2) == 1;
    } else {
      std::fill(way.begin(), way.end(), false);
      std::fill(way.end() - static_cast<std::ptrdiff_t>(of_b), way.end(), true);
      for (std::size_t i = count; i > 1; --i) {
        const std::size_t other = draws.below(static_cast<std::uint32_t>(i));
        const bool last = way[i - 1];
        way[i - 1] = way[other];
        way[other] = last;
      }
    }
    use(way);
  }
  return false;
}

void permute_seeds(SeedComparison& result, std::int64_t resamples, NumpyDraws draws) {
  const auto &a = result.means_a, &b = result.means_b;
  std::vector<double> values;
  if (result.paired) {
    for (std::size_t s = 0; s < a.size(); ++s) values.push_back(b[s] - a[s]);
  } else {
    values = a;
    values.insert(values.end(), b.begin(), b.end());
  }
  double magnitude = 0;
  for (const double value : values) magnitude += std::abs(value);
  const double least = std::abs(result.difference) - 1e-12 * magnitude;
  std::int64_t hits = 0, ways = 0;
  const bool all = for_each_way(
      values.size(), b.size(), result.paired, resamples, draws, [&](const std::vector<bool>& way) {
        double difference = 0;
        for (std::size_t i = 0; i < values.size(); ++i)
          difference += result.paired
                            ? (way[i] ? -values[i] : values[i]) / static_cast<double>(b.size())
                        : way[i] ? values[i] / static_cast<double>(b.size())
                                 : -values[i] / static_cast<double>(a.size());
        hits += std::abs(difference) >= least ? 1 : 0;
        ++ways;
      });
  const auto total = static_cast<double>(ways);
  // Equal groups can also be dealt the other way round.
  const double alike = result.paired || a.size() == b.size() ? 2 : 1;
  result.p_permutation =
      all ? static_cast<double>(hits) / total : static_cast<double>(hits + 1) / (total + 1);
  result.least_p_permutation = all ? alike / total : 1 / (total + 1);
}

}  // namespace

SeedComparison compare_seeds(const SeedScores& a, const SeedScores& b, bool paired,
                             std::int64_t resamples, std::uint64_t seed) {
  const auto samples = a.empty() ? 0 : a.front().size();
  check(a, samples);
  check(b, samples);
  if (resamples < 1)
    throw DataError("seeds", "expected at least 1 resample, got " + std::to_string(resamples));
  if (paired && a.size() != b.size())
    throw DataError("seeds", "expected as many seeds of both systems to pair them, got " +
                                 std::to_string(a.size()) + " and " + std::to_string(b.size()));
  SeedComparison result;
  result.paired = paired;
  result.means_a = seed_means(a);
  result.means_b = seed_means(b);
  result.mean_a = compensated_mean(result.means_a);
  result.mean_b = compensated_mean(result.means_b);
  result.difference = result.mean_b - result.mean_a;
  result.seeds_a = static_cast<std::int64_t>(a.size());
  result.seeds_b = static_cast<std::int64_t>(b.size());
  result.samples = static_cast<std::int64_t>(samples);
  SeedScores differences;
  if (paired)
    for (std::size_t s = 0; s < a.size(); ++s) {
      auto& one = differences.emplace_back(b[s]);
      for (std::size_t i = 0; i < samples; ++i) one[i] -= a[s][i];
    }
  const std::vector<Group> groups =
      paired ? std::vector<Group>{{differences, 1}} : std::vector<Group>{{a, -1}, {b, 1}};
  result.seed_variance_a = paired ? 0 : variance(result.means_a);
  result.seed_variance_b = variance(paired ? seed_means(differences) : result.means_b);
  result.sample_variance = sample_variance(groups);
  const auto spread = spread_of(result, result.seeds_a, result.seeds_b);
  result.standard_error = std::sqrt(spread.variance);
  result.degrees_of_freedom = spread.degrees;

  const auto mixed = static_cast<std::uint32_t>(seed ^ (seed >> 32));
  permute_seeds(result, resamples, NumpyDraws(mixed + 0x9e3779b9U));
  result.low = result.high = result.difference;
  // Sums of equal scores differ by rounding.
  const double rounding =
      1e-12 * (std::abs(result.mean_a) + std::abs(result.mean_b) + result.standard_error);
  if (!(result.standard_error > rounding)) {
    result.p_bootstrap =
        std::abs(result.difference) > rounding ? 1 / static_cast<double>(resamples + 1) : 1;
    return result;
  }
  const auto away = resampled(groups, result.difference, resamples, NumpyDraws(mixed));
  double squares = 0;
  for (const double one : away) squares += one * one;
  const double deviation = std::sqrt(squares / static_cast<double>(resamples));
  if (!(quantile(away, kConfidence) > 0)) return result;  // too few resamples to say anything
  // How much wider than a normal distribution of the same variance it is.
  const double shape =
      quantile(away, kConfidence) / deviation / normal_quantile((1 + kConfidence) / 2);
  const double unit = shape * result.standard_error;
  const double half = unit * student_t_quantile((1 + kConfidence) / 2, spread.degrees);
  result.low = result.difference - half;
  result.high = result.difference + half;
  result.p_bootstrap = 2 * student_t_cdf(-std::abs(result.difference) / unit, spread.degrees);
  return result;
}

double detectable_difference(const SeedComparison& comparison, std::int64_t seeds) {
  const auto spread = spread_of(comparison, seeds, seeds);
  return std::sqrt(spread.variance) * (student_t_quantile((1 + kConfidence) / 2, spread.degrees) +
                                       student_t_quantile(kPower, spread.degrees));
}

std::optional<std::int64_t> seeds_needed(const SeedComparison& comparison, double difference) {
  const auto found = [&](std::int64_t seeds) {
    return detectable_difference(comparison, seeds) <= std::abs(difference);
  };
  if (difference == 0 || !found(kMostSeeds)) return std::nullopt;
  std::int64_t low = 1, high = kMostSeeds;  // low: too few
  while (high - low > 1) {
    const auto middle = (low + high) / 2;
    (middle >= 2 && found(middle) ? high : low) = middle;
  }
  return high;
}

}  // namespace rwkvx
