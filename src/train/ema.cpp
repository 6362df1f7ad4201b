#include "train/ema.h"

#include <torch/types.h>

#include <algorithm>

namespace rwkvx {

Ema::Ema(const NamedTensors& parameters, double decay, std::function<void()> changed)
    : decay_(decay), changed_(std::move(changed)) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : parameters) {
    names_.push_back("ema." + name);
    weights_.push_back(tensor.detach());
    averages_.push_back(tensor.detach().clone());
  }
}

void Ema::update(std::int64_t step) {
  const at::NoGradGuard no_grad;
  const auto t = static_cast<double>(step);
  const double share = 1 - std::min(decay_, (1 + t) / (10 + t));
  at::_foreach_lerp_(averages_, weights_, share);
}

void Ema::swap() {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < averages_.size(); ++i) {
    const auto kept = weights_[i].clone();
    weights_[i].copy_(averages_[i]);
    averages_[i].copy_(kept);
  }
  changed_();
}

void Ema::begin() {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < averages_.size(); ++i) averages_[i].copy_(weights_[i]);
}

NamedTensors Ema::state() const {
  NamedTensors all;
  for (std::size_t i = 0; i < averages_.size(); ++i) all.emplace_back(names_[i], averages_[i]);
  return all;
}

}  // namespace rwkvx
