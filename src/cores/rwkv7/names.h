// RWKV-7's tensors in files: the names of other tools, and the settings that shapes show.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "rwkvx/cores/core.h"

namespace rwkvx::rwkv7 {

bool recognizes(std::span<const TensorView> tensors);
std::span<const Naming> namings();
// Block 0's v0, v1 and v2, which some files hold: the first block's values are its own.
bool unused(std::string_view name);
void infer(const TensorFile& file, ModelConfig& config);

}  // namespace rwkvx::rwkv7
