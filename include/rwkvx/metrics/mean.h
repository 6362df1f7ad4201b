// Sums and means of many scores.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>

namespace rwkvx {

// A sum that carries along what rounding took from it, so that its error does not grow with the
// number of terms. A. Neumaier, ZAMM 54 (1974).
class CompensatedSum {
 public:
  void add(double term) {
    const double sum = sum_ + term;
    lost_ += std::abs(sum_) >= std::abs(term) ? (sum_ - sum) + term : (term - sum) + sum_;
    sum_ = sum;
  }
  double value() const { return sum_ + lost_; }

 private:
  double sum_ = 0, lost_ = 0;
};

// Means of no values are 0.
inline double plain_mean(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}
inline double compensated_mean(std::span<const double> values) {
  CompensatedSum sum;
  for (const double value : values) sum.add(value);
  return values.empty() ? 0 : sum.value() / static_cast<double>(values.size());
}

}  // namespace rwkvx
