// Kernels over all magnitudes of float32: denormal numbers, +-1e-37 … 3.4e38, infinities and NaN,
// against float64. Prints kernel by instruction set the largest error in units of the tolerance.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <iomanip>
#include <iostream>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "support/instruction_sets.h"

namespace rwkvx::test {

using Floats = std::vector<float>;

inline constexpr double kTiny = 1e-37;  // what gradual underflow may lose

inline double wide(float x) { return static_cast<double>(x); }
inline double exact_sigmoid(double x) {
  return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
}

// The layer norm of a row, as (x - mean) scale.
struct Norm {
  double mean = 0, scale = 0;
  explicit Norm(const Floats& row) {
    double squares = 0;
    for (const float x : row) mean += wide(x);
    mean /= static_cast<double>(row.size());
    for (const float x : row) squares += (wide(x) - mean) * (wide(x) - mean);
    scale = 1 / std::sqrt(squares / static_cast<double>(row.size()) + 1e-5);
  }
};

// Zeros, denormal numbers, `steps` numbers per power of ten, the largest, infinities, NaN; of both
// signs.
inline Floats magnitudes(int steps = 1) {
  std::vector<float> all{0.0f, std::numeric_limits<float>::quiet_NaN()};
  std::vector<float> positive{1.4e-45f,
                              3e-42f,
                              1.17549421e-38f,
                              1.17549435e-38f,
                              1.0f,
                              std::numeric_limits<float>::max(),
                              std::numeric_limits<float>::infinity()};
  for (int i = -37 * steps; i <= 38 * steps; ++i)
    positive.push_back(static_cast<float>(1.7 * std::pow(10.0, static_cast<double>(i) / steps)));
  // Where exponentials leave the range of numbers, and of Highway's Exp.
  for (const float x : {0.5f, 10.0f, 80.0f, 87.4f, 88.8f, 103.0f, 104.5f, 128.0f, 177.0f, 178.0f,
                        200.0f, 300.0f, 709.9f, 1e4f})
    positive.push_back(x);
  for (const float x : positive) {
    if (std::isinf(x) && x < 0) continue;
    all.push_back(x), all.push_back(-x);
  }
  return all;
}

// The largest error of one kernel on one instruction set.
class Sweep {
 public:
  // |is - should| <= relative |should| + smallest. Where float64 gives NaN, so must the kernel;
  // where it gives more than float32 holds, infinity or NaN.
  Sweep(double relative, double smallest) : relative_(relative), smallest_(smallest) {}
  void hold(float is, double should, double size = 0) {
    ++count_;
    const double found = static_cast<double>(is);
    double error = 0;
    constexpr double kMost = std::numeric_limits<float>::max();
    if (std::isnan(should)) {
      error = std::isnan(found) ? 0 : INFINITY;
    } else if (std::abs(should) > kMost * (1 + relative_)) {
      error = std::isfinite(found) || std::signbit(found) != std::signbit(should) ? INFINITY : 0;
      if (std::isnan(found)) error = 0;
    } else if (std::abs(should) < kMost * (1 - relative_)) {
      error = std::abs(found - should) / (relative_ * std::max(std::abs(should), size) + smallest_);
      if (std::isnan(error)) error = INFINITY;
    }
    if (error > worst_) worst_ = error, is_ = found, should_ = should, at_ = count_ - 1;
  }
  double worst() const { return worst_; }
  std::string text() const {
    return std::to_string(at_) + ": " + std::to_string(is_) + " instead of " +
           std::to_string(should_);
  }

 private:
  double relative_, smallest_, worst_ = 0, is_ = 0, should_ = 0;
  std::int64_t count_ = 0, at_ = 0;
};

// Collects the sweeps of a test and prints them as a table.
class SweepTable {
 public:
  void add(const std::string& kernel, const std::string& set, const Sweep& sweep) {
    EXPECT_LE(sweep.worst(), 1) << kernel << " on " << set << ", number " << sweep.text();
    if (rows_.count(kernel) == 0) names_.push_back(kernel);
    rows_[kernel][set] = sweep.worst();
  }
  ~SweepTable() {
    std::cout << "largest error in units of the tolerance\n"
              << std::left << std::setw(34) << "kernel";
    if (!names_.empty())
      for (const auto& [set, value] : rows_[names_[0]]) std::cout << std::setw(10) << set;
    for (const auto& name : names_) {
      std::cout << '\n' << std::setw(34) << name;
      for (const auto& [set, value] : rows_[name])
        std::cout << std::setw(10) << std::setprecision(2) << value;
    }
    std::cout << std::right << '\n';
  }

 private:
  std::vector<std::string> names_;
  std::map<std::string, std::map<std::string, double>> rows_;
};

}  // namespace rwkvx::test
