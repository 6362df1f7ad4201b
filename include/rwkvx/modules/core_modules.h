// A core's half in LibTorch's operators: the reference of its block, the way on a GPU, and fused
// training. One row of a table for each core of cores/core.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/config/model_config.h"

namespace rwkvx {

class BlockImpl;
class BlockPass;
struct PassFloats;
struct PassLimits;
struct PassPlace;
struct PassSetup;

struct CoreModules {
  std::string_view core;  // its name
  std::shared_ptr<BlockImpl> (*block)(const ModelConfig& config, std::int64_t layer);

  // Fused training of a block; null: it trains through `block`.
  std::unique_ptr<BlockPass> (*pass)(const PassSetup& setup) = nullptr;
  // What of these settings the fused training lacks, in words; "" for nothing.
  std::string (*pass_lacks)(const ModelConfig& config, const PassPlace& place) = nullptr;
  PassFloats (*pass_floats)(const ModelConfig& config, const PassLimits& limits) = nullptr;
  // What it spends its time on beside matrix products.
  std::vector<std::string_view> pass_operators = {};
};

// Those of a model's core. Throws ConfigError where there is none.
const CoreModules& modules_of(const ModelConfig& config);
// For programs that bring a core of their own.
void register_modules(const CoreModules& modules);

}  // namespace rwkvx
