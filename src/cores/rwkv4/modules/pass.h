// RWKV-4's block in fused training.
#pragma once

#include <memory>
#include <string>

#include "rwkvx/cores/core.h"
#include "rwkvx/modules/pass.h"

namespace rwkvx::rwkv4 {

std::unique_ptr<BlockPass> make_pass(const PassSetup& setup);
std::string pass_lacks(const ModelConfig& config, const PassPlace& place);
PassFloats pass_floats(const ModelConfig& config, const PassLimits& limits);

}  // namespace rwkvx::rwkv4
