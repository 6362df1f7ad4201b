// A sum of losses, which a device may still be computing.
#pragma once

#include <ATen/core/Tensor.h>

namespace rwkvx {

class LossSum {
 public:
  LossSum(double value = 0) : here_(value) {}  // NOLINT(google-explicit-constructor)
  // Of no dimension, float64.
  explicit LossSum(at::Tensor there) : there_(std::move(there)) {}

  // Nothing is waited for.
  LossSum& operator+=(const LossSum& other);
  friend LossSum operator*(const LossSum& sum, double factor);
  friend LossSum operator/(const LossSum& sum, double divisor);
  // On a device: the sum as a tensor there.
  at::Tensor on(c10::Device device) const;

  // Waits for the device.
  double value() const;
  operator double() const { return value(); }  // NOLINT(google-explicit-constructor)

 private:
  double here_ = 0;
  at::Tensor there_;  // to be added; undefined: nothing
};

}  // namespace rwkvx
