// How long a run is, and the learning rate of a step.
#pragma once

#include <cstdint>
#include <string>

#include "rwkvx/config/train_config.h"

namespace rwkvx {

// Where a run ends: at the first of these that is reached.
struct TrainingBudget {
  std::int64_t steps = 0;             // 0: no limit
  std::int64_t tokens = 0;            // 0: no limit
  std::int64_t step_tokens = 1;       // of a step whose batches are full
  std::string_view tokens_from = "";  // the setting that `tokens` comes from

  bool reached(std::int64_t step, std::int64_t trained_tokens) const {
    return (steps > 0 && step >= steps) || (tokens > 0 && trained_tokens >= tokens);
  }
  // Steps of the run, if all batches are full.
  std::int64_t expected_steps() const;
  // "1000 steps (train.max_steps)".
  std::string text() const;
};

// `epoch_tokens` are the tokens of one pass over the training text.
TrainingBudget training_budget(const TrainingConfig& config, std::int64_t step_tokens,
                               std::int64_t epoch_tokens);

// The rate of the step after `step` steps and `tokens` tokens: the schedule's from learning_rate to
// final_learning_rate after the warm-up, during which it is multiplied by 0.2 rising to 1 (RWKV-LM,
// RWKV-v4neo src/trainer.py). Where the budget has two limits, the schedule follows the one that is
// nearer to its end.
double scheduled_rate(const TrainingConfig& config, const TrainingBudget& budget, std::int64_t step,
                      std::int64_t tokens);

}  // namespace rwkvx
