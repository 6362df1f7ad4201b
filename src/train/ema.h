// Averages of the weights over the steps.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "train/update_rule.h"

namespace rwkvx {

// For each parameter a = d a + (1 - d) x after every step, from the weights at the beginning. d is
// min(decay, (1 + t) / (10 + t)) of step t, so that the first weights are soon forgotten, as in
// TensorFlow's ExponentialMovingAverage (num_updates).
class Ema {
 public:
  // Parameters by their names, kept by reference; `changed` is called where swap() changed them.
  Ema(const NamedTensors& parameters, double decay, std::function<void()> changed);
  // After step number `step`, from 1.
  void update(std::int64_t step);
  // Exchanges the averages and the weights, bit for bit.
  void swap();
  // The averages begin with the weights as they are.
  void begin();
  // "ema.NAME", to save and to restore.
  NamedTensors state() const;

 private:
  std::vector<std::string> names_;  // "ema.NAME"
  std::vector<at::Tensor> weights_, averages_;
  double decay_;
  std::function<void()> changed_;
};

}  // namespace rwkvx
