// RWKV-4's tensors in files: the names of other tools, and the settings that shapes show.
#pragma once

#include <span>

#include "rwkvx/cores/core.h"

namespace rwkvx::rwkv4 {

bool recognizes(std::span<const TensorView> tensors);
std::span<const Naming> namings();
void infer(const TensorFile& file, ModelConfig& config);

}  // namespace rwkvx::rwkv4
