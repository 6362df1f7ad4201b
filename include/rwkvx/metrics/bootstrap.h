// Confidence intervals of mean scores by resampling, as rouge-score's BootstrapAggregator.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "rwkvx/metrics/rouge.h"

namespace rwkvx {

// The draws of numpy's legacy generator (numpy.random.seed, numpy.random.choice with replacement).
class NumpyDraws {
 public:
  explicit NumpyDraws(std::uint32_t seed) : engine_(seed) {}
  // A number from 0 to n - 1; n at least 1. Draws nothing from the stream for n = 1.
  std::uint32_t below(std::uint32_t n);
  // 32 random bits.
  std::uint32_t bits() { return static_cast<std::uint32_t>(engine_()); }

 private:
  std::mt19937 engine_;
};

struct ScoreInterval {
  RougeScore low, mid, high;
};

// Percentiles of the means of `samples` resamples of `scores`, precision, recall and F each on its
// own. mid is the median of those means, not the mean of the scores. `confidence` is from 0 to 1.
// Takes samples x scores.size() draws. Throws DataError where there are no scores or no samples.
ScoreInterval bootstrap(std::span<const RougeScore> scores, double confidence, std::size_t samples,
                        NumpyDraws& draws);

}  // namespace rwkvx
