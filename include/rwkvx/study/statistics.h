// How a time grows with a size.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace rwkvx {

// seconds = c size^exponent.
struct ExponentFit {
  double exponent = 0, low = 0, high = 0;  // and its 95 % interval
  double first_size = 0, last_size = 0;
};

// Fits the exponent by least squares on the logarithms of the median times; the interval comes from
// drawing the repetitions of each size with replacement. seconds[i] are the repetitions at
// sizes[i]. Throws DataError for fewer than two sizes, a size without repetitions, or values that
// are not positive.
ExponentFit fit_exponent(std::span<const double> sizes,
                         const std::vector<std::vector<double>>& seconds, std::int64_t resamples,
                         std::uint64_t seed);

}  // namespace rwkvx
