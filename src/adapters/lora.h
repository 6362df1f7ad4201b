// The names of LoRA's pairs.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace rwkvx {

struct LoraHalf {
  std::string stem;     // "blocks.0.att.key"
  bool second = false;  // lora_B
};
// What a tensor of this name is half of; nothing for other names.
std::optional<LoraHalf> lora_half(std::string_view name);

}  // namespace rwkvx
