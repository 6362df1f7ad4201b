// Is one system better than another where each was trained, or drew, with several seeds?
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace rwkvx {

// Scores by seed and by sample; all seeds have the same samples in the same order.
using SeedScores = std::vector<std::vector<double>>;

struct SeedComparison {
  double mean_a = 0, mean_b = 0;
  double difference = 0;     // mean of b - a
  double low = 0, high = 0;  // its 95 % interval
  double standard_error = 0, degrees_of_freedom = 0;
  double p_bootstrap = 1;          // hierarchical bootstrap, two-sided
  double p_permutation = 1;        // permutation of seeds, two-sided
  double least_p_permutation = 1;  // as small as that can be with so many seeds
  std::int64_t seeds_a = 0, seeds_b = 0, samples = 0;
  bool paired = false;
  std::vector<double> means_a, means_b;  // of each seed
  // Variance of the difference: of one seed each (b's alone where paired), and what the samples
  // add however many seeds there are.
  double seed_variance_a = 0, seed_variance_b = 0, sample_variance = 0;
};

// Compares two systems, b against a; seeds and samples are both taken as drawn from more.
// Deterministic for `seed`.
//
// - The variance of the difference is that of a crossed analysis of variance: of the seeds' means
//   (which holds the noise of single scores), and of the samples' differences beyond that noise.
//   The degrees of freedom are B. L. Welch's and F. E. Satterthwaite's (1946).
// - low, high, p_bootstrap: `resamples` draws of seeds within each system and of samples common to
//   all, with replacement. Few seeds make a bootstrap too narrow, and crossed draws count the noise
//   of single scores twice (P. McCullagh, Bernoulli 6 (2000)); so its distribution gives the shape
//   (how far its 95 % lie out, in standard deviations), the variance above the scale, and Student's
//   t in place of the normal distribution the width (after T. Hesterberg, The American Statistician
//   69 (2015), "expanded percentile"). The interval holds 0 exactly where p_bootstrap > 0.05.
// - p_permutation: how often seeds dealt to the two systems at random give seed means at least as
//   far apart; all ways where there are at most 20,000, else `resamples` of them. Where `paired`,
//   the two means of a seed are swapped at random.
//
// `paired`: seed k of both systems belong together, as trainings that saw the same batches do.
// Throws DataError for fewer than two seeds or samples, seeds with different numbers of samples,
// scores that are not finite and no resamples.
SeedComparison compare_seeds(const SeedScores& a, const SeedScores& b, bool paired,
                             std::int64_t resamples, std::uint64_t seed);

// The least difference that such a comparison finds with a chance of 80 % at the 5 % level where
// each system has `seeds` seeds, at least 2.
double detectable_difference(const SeedComparison& comparison, std::int64_t seeds);
// The seeds that each system needs to find `difference` so; nothing where 10,000 are too few, as
// the samples alone vary too much.
std::optional<std::int64_t> seeds_needed(const SeedComparison& comparison, double difference);

}  // namespace rwkvx
