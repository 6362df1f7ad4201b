#include "rwkvx/model/loss_sum.h"

#include <ATen/ATen.h>

namespace rwkvx {

LossSum& LossSum::operator+=(const LossSum& other) {
  here_ += other.here_;
  if (other.there_.defined()) there_ = there_.defined() ? there_ + other.there_ : other.there_;
  return *this;
}

LossSum operator*(const LossSum& sum, double factor) {
  LossSum product = sum.here_ * factor;
  if (sum.there_.defined()) product.there_ = sum.there_ * factor;
  return product;
}

LossSum operator/(const LossSum& sum, double divisor) {
  LossSum quotient = sum.here_ / divisor;
  if (sum.there_.defined()) quotient.there_ = sum.there_ / divisor;
  return quotient;
}

at::Tensor LossSum::on(c10::Device device) const {
  if (there_.defined()) return there_ + here_;
  return at::full({}, here_, at::device(device).dtype(at::kDouble));
}

double LossSum::value() const { return there_.defined() ? here_ + there_.item<double>() : here_; }

}  // namespace rwkvx
