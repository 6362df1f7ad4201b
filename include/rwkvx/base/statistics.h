// Statistics of lists of numbers.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

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

// Means of no values are 0. plain_mean adds in order, as NumPy's scalar loops and rouge-score do.
double plain_mean(std::span<const double> values);
double compensated_mean(std::span<const double> values);

// The standard deviation of a sample (n - 1), 0 for fewer than two values.
double sample_deviation(std::span<const double> values);

// The standard error of a mean from the sums of n values and of their squares, 0 for fewer than
// two values.
double standard_error(std::int64_t n, double sum, double sum_of_squares);

// The middle value, or the mean of the two in the middle; 0 for no values.
double median(std::vector<double> values);

// Linear interpolation between the two neighbors of position q (n - 1), as numpy.percentile.
// `sorted` must be sorted and hold something; q is from 0 to 1.
double quantile(std::span<const double> sorted, double q);
// The value nearest to that position.
double nearest_quantile(std::span<const double> sorted, double q);

// Distribution functions of the standard normal distribution and of Student's t with any number of
// degrees of freedom above 0, and their inverses for probabilities between 0 and 1.
double normal_cdf(double z);
double normal_quantile(double probability);
double student_t_cdf(double t, double degrees);
double student_t_quantile(double probability, double degrees);

}  // namespace rwkvx
