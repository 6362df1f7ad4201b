// RWKV-7's tables: sizes, parameters, state and cost of a block.
#pragma once

#include <string>
#include <vector>

#include "cores/shift/layout.h"
#include "rwkvx/cores/core.h"

namespace rwkvx::rwkv7 {

// The settings, with what 0 stands for in its place.
struct Sizes {
  explicit Sizes(const ModelConfig& config);
  std::int64_t C, F;  // channels, hidden channels of the channel mix
  std::int64_t H, N;  // heads of N channels, C = H N
  // Inner widths of the low-rank pairs: decay, in-context learning rate, value, gate.
  std::int64_t decay, iclr, value, gate;
};

void check(const ModelConfig& config, const std::string& where);
std::vector<ParameterRow> parameters(const ModelConfig& config, std::int64_t layer);
std::vector<StateRow> state(const ModelConfig& config);
std::vector<CostRow> cost(const ModelConfig& config);

// Where a block's state has its tensors.
struct StatePlaces {
  explicit StatePlaces(const ModelConfig& config);
  SitePlaces att, ffn;
  int wkv;
};

}  // namespace rwkvx::rwkv7
