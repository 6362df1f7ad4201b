#include "rwkvx/base/statistics.h"

#include <algorithm>
#include <numbers>

namespace rwkvx {
namespace {

// The regularized incomplete beta function, by its continued fraction and the modified method of
// Lentz. W. H. Press et al., "Numerical recipes", 2007, section 6.4.
double incomplete_beta(double a, double b, double x) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incomplete_beta(b, a, 1 - x);
  constexpr double kTiny = 1e-300;
  const auto away_from_zero = [](double value) { return std::abs(value) < kTiny ? kTiny : value; };
  double c = 1, d = 1 / away_from_zero(1 - (a + b) * x / (a + 1)), fraction = d;
  for (int m = 1; m < 10000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    double step = 1;
    for (const double term : {even, odd}) {
      d = 1 / away_from_zero(1 + term * d);
      c = away_from_zero(1 + term / c);
      step *= c * d;
    }
    fraction *= step;
    if (std::abs(step - 1) < 1e-15) break;
  }
  return fraction *
         std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) +
                  b * std::log1p(-x)) /
         a;
}

// Where a distribution that is symmetric about 0 has the probability.
template <class Cdf>
double symmetric_quantile(double probability, const Cdf& cdf) {
  if (probability > 0.5) return -symmetric_quantile(1 - probability, cdf);
  double low = -1, high = 0;
  while (cdf(low) > probability && low > -1e300) low *= 2;
  for (int i = 0; i < 200 && low < high; ++i) {
    const double middle = low + (high - low) / 2;
    if (middle == low || middle == high) break;
    (cdf(middle) > probability ? high : low) = middle;
  }
  return high;
}

}  // namespace

double plain_mean(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

double compensated_mean(std::span<const double> values) {
  CompensatedSum sum;
  for (const double value : values) sum.add(value);
  return values.empty() ? 0 : sum.value() / static_cast<double>(values.size());
}

double sample_deviation(std::span<const double> values) {
  if (values.size() < 2) return 0;
  const double mean = compensated_mean(values);
  CompensatedSum sum;
  for (const double value : values) sum.add((value - mean) * (value - mean));
  return std::sqrt(sum.value() / static_cast<double>(values.size() - 1));
}

double standard_error(std::int64_t n, double sum, double sum_of_squares) {
  if (n < 2) return 0;
  const auto count = static_cast<double>(n);
  const double variance = std::max(0.0, sum_of_squares - sum * sum / count) / (count - 1);
  return std::sqrt(variance / count);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto n = values.size();
  return n == 0 ? 0 : (values[(n - 1) / 2] + values[n / 2]) / 2;
}

double quantile(std::span<const double> sorted, double q) {
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(std::floor(position));
  const auto above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (position - static_cast<double>(below));
}

double normal_cdf(double z) { return std::erfc(-z / std::numbers::sqrt2) / 2; }

double normal_quantile(double probability) { return symmetric_quantile(probability, normal_cdf); }

double student_t_cdf(double t, double degrees) {
  const double tail = incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t)) / 2;
  return t > 0 ? 1 - tail : tail;
}

double student_t_quantile(double probability, double degrees) {
  return symmetric_quantile(probability, [&](double t) { return student_t_cdf(t, degrees); });
}

double nearest_quantile(std::span<const double> sorted, double q) {
  return sorted[static_cast<std::size_t>(q * static_cast<double>(sorted.size() - 1) + 0.5)];
}

}  // namespace rwkvx
