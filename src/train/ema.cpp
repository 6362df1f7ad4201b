#include "train/ema.h"

#include <torch/types.h>

#include <algorithm>

namespace rwkvx {

Ema::Ema(NamedTensors parameters, double decay, std::function<void()> changed)
    : parameters_(std::move(parameters)), decay_(decay), changed_(std::move(changed)) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : parameters_) averages_.push_back(tensor.detach().clone());
}

void Ema::update(std::int64_t step) {
  const at::NoGradGuard no_grad;
  const auto t = static_cast<double>(step);
  const double share = 1 - std::min(decay_, (1 + t) / (10 + t));
  for (std::size_t i = 0; i < averages_.size(); ++i)
    averages_[i].lerp_(parameters_[i].second, share);
}

void Ema::swap() {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < averages_.size(); ++i) {
    auto weights = parameters_[i].second.detach();
    const auto kept = weights.clone();
    weights.copy_(averages_[i]);
    averages_[i].copy_(kept);
  }
  changed_();
}

void Ema::begin() {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < averages_.size(); ++i) averages_[i].copy_(parameters_[i].second);
}

NamedTensors Ema::state() const {
  NamedTensors all;
  for (std::size_t i = 0; i < averages_.size(); ++i)
    all.emplace_back("ema." + parameters_[i].first, averages_[i]);
  return all;
}

}  // namespace rwkvx
