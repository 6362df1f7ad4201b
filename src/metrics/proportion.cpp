#include "rwkvx/metrics/proportion.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace rwkvx {
namespace {

constexpr double kZ = 1.9599639845400545;  // of 95 %, two-sided

}  // namespace

ShareInterval wilson_interval(std::int64_t hits, std::int64_t count) {
  const auto n = static_cast<double>(count), share = static_cast<double>(hits) / n;
  const double middle = (share + kZ * kZ / (2 * n)) / (1 + kZ * kZ / n);
  const double half =
      kZ / (1 + kZ * kZ / n) * std::sqrt(share * (1 - share) / n + kZ * kZ / (4 * n * n));
  // At the ends the bound is the share itself, but for rounding.
  return {share, hits == 0 ? 0 : middle - half, hits == count ? 1 : middle + half};
}

double mcnemar_p(std::int64_t only_a, std::int64_t only_b) {
  const auto n = only_a + only_b, fewer = std::min(only_a, only_b);
  const auto log_factorial = [](std::int64_t k) { return std::lgamma(static_cast<double>(k) + 1); };
  double tail = 0;
  for (std::int64_t k = 0; k <= fewer; ++k)
    tail += std::exp(log_factorial(n) - log_factorial(k) - log_factorial(n - k) -
                     static_cast<double>(n) * std::numbers::ln2);
  return std::min(1.0, 2 * tail);
}

}  // namespace rwkvx
