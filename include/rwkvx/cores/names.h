// Whose tensors a file holds: official names, the core they are a model of, and what is said of
// tensors that do not make up one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "rwkvx/cores/core.h"

namespace rwkvx {

// The official name of a tensor: what wrappers put before it is dropped, and the names of converted
// models are translated. "rwkv.blocks.0.pre_ln.bias" gives "blocks.0.ln0.bias".
std::string official_name(std::string_view name);

// The core that tensors of these (official) names are a model of; null where there is none.
const Core* recognize(std::span<const TensorView> tensors);

// "4", "5", "5.2", "6" or "7" by which (official) names there are; "" where it is no RWKV model.
std::string rwkv_version(std::span<const TensorView> tensors);

// The same tensors under their official names, laid out as the official model has them. Throws
// CheckpointError for a version of RWKV that no core has, for a model prepared for one device by
// ChatRWKV and for what is no RWKV model at all.
TensorFile with_official_names(const TensorFile& file);

// Opens a file of weights, told apart by content, and gives its tensors their official names.
TensorFile open_tensors(const std::filesystem::path& path);

// The configuration that a file's tensors have the names and shapes of. Values that leave no trace
// in them (the kind of position features beside their number) take their defaults. Throws
// CheckpointError where they fit no core's model.
ModelConfig infer_config(const TensorFile& file);

// Whether some core's files hold a tensor of this (official) name that its models have no use for.
bool is_unused(std::string_view name);

// Of a tensor that a model needs and a file lacks, and of one that no model has: with the likely
// cause, where the name shows one.
std::string missing_tensor(std::string_view name, std::span<const std::int64_t> shape);
std::string unknown_tensor(std::string_view name);

}  // namespace rwkvx
