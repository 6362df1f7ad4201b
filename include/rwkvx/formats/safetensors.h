// Safetensors files: read by mapping, written whole or not at all, with a checksum per tensor.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "rwkvx/formats/tensor_file.h"

namespace rwkvx {

// Opens a safetensors file and no other. Nothing in the file is trusted: throws CheckpointError
// naming the file, and the tensor if it is one tensor's fault, for anything that is not a
// well-formed file, and FileError where it cannot be opened. It does not read the tensors' bytes.
// The tensors come in the order of their bytes in the file. The metadata is what the writer gave to
// write_safetensors(), and the checksums.
TensorFile read_safetensors(const std::filesystem::path& path);

// Writes a file atomically. The data starts at a multiple of 64 bytes and holds the tensors in the
// given order, except that larger element sizes come first, so that every tensor is aligned. The
// metadata gets "checksum.<name>", the XXH3-128 of each tensor's bytes in hex, and "checksum", that
// of the names, dtypes, shapes and the rest of the metadata. The same input gives the same bytes.
// Throws CheckpointError for two tensors of one name, for bytes that do not fit a shape and for
// metadata keys that are "checksum" or begin with "checksum."; FileError where the disk refuses.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata = {});
// The same from tensors whose bytes are made twice: for the checksum, and to be written.
void stream_safetensors(const std::filesystem::path& path, std::span<const PendingTensor> tensors,
                        const std::map<std::string, std::string>& metadata = {});

}  // namespace rwkvx
