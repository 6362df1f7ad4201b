// What a format of tensor files is. Each is defined in a file of its own, as `extern const Format
// kName`; the table of all is in tensor_file.cpp.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "rwkvx/formats/tensor_file.h"

namespace rwkvx {

struct Format {
  std::string_view file;  // as a message names it: "a .safetensors file"
  // By the first bytes of a file, kKindBytes of them or the whole file.
  bool (*recognizes)(std::string_view beginning);
  // Throws CheckpointError naming the file, and the tensor if it is one tensor's fault.
  std::shared_ptr<const TensorFile::Contents> (*read)(const std::filesystem::path& path);
};

// By its name in safetensors files; all of these names, a space before each.
std::optional<DType> dtype_from(std::string_view name);
std::string dtype_names();

// Bytes of a tensor of this shape, or nothing where the number of elements or of bytes overflows. A
// dimension of 0 counts as 1 for that, because strides are computed that way.
std::optional<std::uint64_t> byte_count(DType dtype, std::span<const std::int64_t> shape);

inline constexpr std::size_t kMaxDimensions = 32;  // of a tensor

// The beginning of a long name from the file, for messages.
std::string shown(std::string_view text);

}  // namespace rwkvx
