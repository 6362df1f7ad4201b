#include "rwkvx/base/statistics.h"

#include <algorithm>

namespace rwkvx {

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

double nearest_quantile(std::span<const double> sorted, double q) {
  return sorted[static_cast<std::size_t>(q * static_cast<double>(sorted.size() - 1) + 0.5)];
}

}  // namespace rwkvx
