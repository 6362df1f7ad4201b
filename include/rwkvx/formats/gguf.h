// The GGUF files of llama.cpp, to write, and what only they have; open_tensor_file() reads them.
// Source: the specification docs/gguf.md of ggml, version 3.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "rwkvx/formats/tensor_file.h"

namespace rwkvx {

inline constexpr char kGgufArchitecture[] = "general.architecture";
inline constexpr char kGgufTokens[] = "tokenizer.ggml.tokens";

// Of a file that open_tensor_file() read from a GGUF: the metadata has its scalars as text under
// their keys, and the texts of a list of strings one after the other with a zero byte after each.
// The texts of such a list.
std::vector<std::string> gguf_strings(const std::string& list);

using GgufValue = std::variant<std::uint32_t, float, bool, std::string, std::vector<std::string>,
                               std::vector<std::int32_t>>;
using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;

struct GgufTensor {
  // F32, F16 or BF16. Its shape is written in the reverse order, as ggml counts dimensions.
  PendingTensor tensor;
  // As Q8_0: blocks of 32 elements of a row, each with the scale that its largest gets 127 by.
  bool q8_0 = false;
};
// Elements of a Q8_0 block; rows of other multiples cannot be Q8_0.
inline constexpr std::int64_t kGgufBlock = 32;

// Writes a file atomically, version 3, tensors at multiples of 32 bytes. Throws CheckpointError
// where write_safetensors() does, for more than 4 dimensions and other types, and FileError.
void write_gguf(const std::filesystem::path& path, std::span<const GgufTensor> tensors,
                const GgufMetadata& metadata);

}  // namespace rwkvx
