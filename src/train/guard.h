// Finds losses and gradients that spike.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rwkvx/config/train_config.h"

namespace rwkvx {

// What a run's guards remember; part of a checkpoint's state, so that a resumed run decides alike.
struct GuardState {
  std::int64_t used = 0;              // steps skipped or rolled back so far
  std::int64_t verified = -1;         // the last step from which a pass was finite
  std::vector<double> losses, norms;  // of the last good steps, oldest first
};

// Whether guards are on, so that their state is kept.
bool guarded(const TrainingConfig& config);

// "" where loss and gradient norm are finite and do not spike: they are remembered then. Else what
// is wrong, "the loss is 9.13, 7.2 standard deviations above the mean of the last 128 steps". A
// spike needs spike_zscore > 0 and a full window; a deviation below 1 % of the mean counts as that.
std::string find_spike(const TrainingConfig& config, double loss, double norm, GuardState& state);

nlohmann::ordered_json guard_to_json(const GuardState& state);
// Throws nlohmann::json::exception where it is not one.
GuardState guard_from_json(const nlohmann::json& json);

}  // namespace rwkvx
