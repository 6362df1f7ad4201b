// Safetensors files: read by mapping, written whole or not at all, with a checksum per tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "rwkvx/base/files.h"

namespace rwkvx {

enum class DType { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU64, kU32, kU16, kU8, kBool };

// "F32", as safetensors files write it.
std::string_view dtype_name(DType dtype);
// Bytes of one element.
std::size_t dtype_size(DType dtype);
// "(2, 3)", for messages.
std::string shape_text(std::span<const std::int64_t> shape);

// A tensor's description and its row-major little-endian bytes, which belong to someone else (a
// mapped file, an at::Tensor). In files of other tools they may lie at any address.
struct TensorView {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;

  // Number of elements: 1 for a scalar, 0 where a dimension is 0.
  std::int64_t numel() const;
};

// The elements of an F64, F32, F16 or BF16 tensor as float32 (F64 is rounded). Throws
// CheckpointError naming the tensor for another dtype.
std::vector<float> to_float32(const TensorView& tensor);

// A mapped safetensors file. The tensors' bytes live as long as this object, wherever it is moved.
// Nothing in the file is trusted: the constructor throws CheckpointError naming the file, and the
// tensor if it is one tensor's fault, for anything that is not a well-formed file, and FileError
// where it cannot be opened. It does not read the tensors' bytes.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  // In the order of their bytes in the file.
  const std::vector<TensorView>& tensors() const { return tensors_; }
  // Null where there is none of this name.
  const TensorView* find(std::string_view name) const;
  // Throws CheckpointError where there is none of this name.
  const TensorView& at(std::string_view name) const;
  // What the writer gave to write_safetensors(), and the checksums.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // Whether the file carries checksums; those of other tools do not.
  bool has_checksums() const;
  // Reads everything and throws CheckpointError naming the first tensor whose bytes differ from its
  // checksum, or the header where that was changed. Does nothing without checksums.
  void verify() const;

 private:
  [[noreturn]] void fail(const std::string& tensor, const std::string& reason) const;
  void parse();
  std::filesystem::path path_;
  std::unique_ptr<MappedFile> file_;
  std::vector<TensorView> tensors_;
  std::unordered_map<std::string, std::size_t> index_;  // name -> place in tensors_
  std::map<std::string, std::string> metadata_;
};

// Writes a file atomically. The data starts at a multiple of 64 bytes and holds the tensors in the
// given order, except that larger element sizes come first, so that every tensor is aligned. The
// metadata gets "checksum.<name>", the XXH3-128 of each tensor's bytes in hex, and "checksum", that
// of the names, dtypes, shapes and the rest of the metadata. The same input gives the same bytes.
// Throws CheckpointError for two tensors of one name, for bytes that do not fit a shape and for
// metadata keys that are "checksum" or begin with "checksum."; FileError where the disk refuses.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace rwkvx
