// Is one system better than another? Tests on the differences of their scores, sample by sample.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace rwkvx {

struct PairedComparison {
  double mean_a = 0, mean_b = 0;
  double difference = 0;       // mean of b - a
  double low = 0, high = 0;    // its 95 % interval: percentiles of the bootstrap's means
  double effect_size = 0;      // Cohen's d of the differences: their mean over their deviation
  double p_bootstrap = 1;      // two-sided
  double p_randomization = 1;  // two-sided
  std::int64_t samples = 0;
};

// Compares the scores of two systems on the same samples, b against a. Deterministic for a seed.
//
// - low, high, p_bootstrap: `resamples` draws of as many differences with replacement; p is how
//   often their mean lies at least as far from the observed mean as that lies from 0. B. Efron and
//   R. Tibshirani, "An introduction to the bootstrap", 1993, sections 13.3 and 16.4; P. Koehn,
//   EMNLP 2004, for its use on systems.
// - p_randomization: `resamples` random choices of signs of the differences, as if each sample's
//   two scores had been swapped by a coin; p is how often their mean is at least as far from 0.
//   E. Noreen, "Computer-intensive methods for testing hypotheses", 1989.
//
// Both p are (hits + 1) / (resamples + 1), so never 0. Where all differences are equal, the effect
// size is 0 (no difference) or infinite. The bootstrap wants some dozens of samples: with few its
// intervals are too narrow, and p_randomization is the one to trust. Throws DataError for different
// numbers of scores, fewer than two, scores that are not finite and no resamples.
PairedComparison compare_paired(std::span<const double> a, std::span<const double> b,
                                std::int64_t resamples, std::uint64_t seed);

struct MeanInterval {
  double mean = 0, low = 0, high = 0;
};
// The mean of scores and its 95 % interval by the bootstrap. Throws DataError as above.
MeanInterval mean_interval(std::span<const double> scores, std::int64_t resamples,
                           std::uint64_t seed);

// p values of several comparisons, each made larger so that the chance of any false difference
// among them stays what a single one's is. S. Holm, Scandinavian Journal of Statistics 6 (1979).
std::vector<double> holm_adjusted(std::span<const double> p_values);

}  // namespace rwkvx
