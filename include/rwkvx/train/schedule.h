// The learning rate of a step.
#pragma once

#include <cmath>
#include <cstdint>

#include "rwkvx/config/train_config.h"

namespace rwkvx {

// The rate of step `step` (from 0): the schedule's from learning_rate to final_learning_rate after
// the warm-up, during which it is multiplied by 0.2 rising to 1. RWKV-LM RWKV-v4neo src/trainer.py.
inline double scheduled_rate(const TrainingConfig& config, std::int64_t step) {
  const auto warmup = static_cast<double>(config.warmup_steps), s = static_cast<double>(step);
  const double rest = static_cast<double>(config.max_steps) - warmup;
  const double progress = rest > 0 ? std::fmin(std::fmax((s - warmup) / rest, 0.0), 1.0) : 0;
  const double f = config.learning_rate > 0 ? config.final_learning_rate / config.learning_rate : 1;
  const double rise = s < warmup ? 0.2 + 0.8 * s / warmup : 1;
  return config.learning_rate * schedule_factor(config.lr_schedule, progress, f) * rise;
}

}  // namespace rwkvx
