// RWKV-4's tables: parameters, state and cost of a block.
#pragma once

#include <vector>

#include "cores/shift/layout.h"
#include "rwkvx/cores/core.h"

namespace rwkvx::rwkv4 {

std::vector<ParameterRow> parameters(const ModelConfig& config, std::int64_t layer);
std::vector<StateRow> state(const ModelConfig& config);
std::vector<CostRow> cost(const ModelConfig& config);

// Where a block's state has its tensors.
struct StatePlaces {
  explicit StatePlaces(const ModelConfig& config);
  SitePlaces att, ffn;
  int wkv;
};

}  // namespace rwkvx::rwkv4
