// RWKV-4's tensors in files: the names of other tools, and the settings that shapes show.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "rwkvx/cores/core.h"

namespace rwkvx::rwkv4 {

bool recognizes(std::span<const TensorView> tensors);
// "blocks.0.attention.key.weight" gives "blocks.0.att.key.weight".
std::string official_name(std::string_view name);
void infer(const TensorFile& file, ModelConfig& config);

}  // namespace rwkvx::rwkv4
