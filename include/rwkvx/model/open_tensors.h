// The weights of an RWKV-4 model from whatever file they come in, under their official names.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "rwkvx/formats/tensor_file.h"

namespace rwkvx {

// Opens a safetensors or .pth file, told apart by content, that holds an RWKV-4 model, and gives
// its tensors their official names: "_forward_module." is dropped and the names of converted models
// ("rwkv.blocks.0.attention.key.weight") are translated. Throws CheckpointError for another version
// of RWKV, for a model prepared for one device by ChatRWKV and for what is no RWKV model at all.
TensorFile open_tensors(const std::filesystem::path& path);

// The official name of a tensor: "rwkv.blocks.0.pre_ln.bias" gives "blocks.0.ln0.bias". Names that
// need no translation come back unchanged.
std::string official_name(std::string_view name);

// "4", "5", "5.2", "6" or "7" by which (official) names there are; "" where it is no RWKV model.
std::string rwkv_version(std::span<const TensorView> tensors);

}  // namespace rwkvx
