#include "rwkvx/study/statistics.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "rwkvx/base/error.h"
#include "rwkvx/base/statistics.h"

namespace rwkvx {
namespace {

void check_finite(std::span<const double> values, const char* what) {
  if (values.empty()) throw DataError(what, "expected one or more values, got none");
  for (const double value : values)
    if (!std::isfinite(value)) throw DataError(what, "holds a value that is not finite");
}

// A number below n. std::uniform_int_distribution differs between standard libraries.
std::size_t below(std::mt19937_64& random, std::size_t n) {
  return static_cast<std::size_t>((random() >> 11) % n);
}

double slope(const std::vector<double>& x, const std::vector<double>& y) {
  const double mean_x = compensated_mean(x), mean_y = compensated_mean(y);
  double xy = 0, xx = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean_x) * (y[i] - mean_y);
    xx += (x[i] - mean_x) * (x[i] - mean_x);
  }
  return xy / xx;
}

}  // namespace

ExponentFit fit_exponent(std::span<const double> sizes,
                         const std::vector<std::vector<double>>& seconds, std::int64_t resamples,
                         std::uint64_t seed) {
  if (sizes.size() < 2 || sizes.size() != seconds.size())
    throw DataError("exponent", "expected times at two or more sizes");
  std::vector<double> x, y;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    check_finite(seconds[i], "times");
    for (const double value : seconds[i])
      if (!(value > 0) || !(sizes[i] > 0))
        throw DataError("exponent", "expected sizes and times above 0");
    x.push_back(std::log(sizes[i]));
    y.push_back(std::log(median(seconds[i])));
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
      y[k] = std::log(median(drawn));
    }
    draws.push_back(slope(x, y));
  }
  std::sort(draws.begin(), draws.end());
  fit.low = draws.empty() ? fit.exponent : quantile(draws, 0.025);
  fit.high = draws.empty() ? fit.exponent : quantile(draws, 0.975);
  return fit;
}

}  // namespace rwkvx
