// RWKV-7's block in the engine.
#pragma once

#include <memory>

#include "rwkvx/cores/step.h"

namespace rwkvx::rwkv7 {

std::unique_ptr<BlockStep> make_step(const StepSetup& setup);

}  // namespace rwkvx::rwkv7
