// Named tensors as files hold them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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

// The elements of such a tensor as dtype F32, F16 or BF16, rounded to the nearest, ties to even.
// Throws CheckpointError naming the tensor where a finite number is beyond what F16 holds.
std::vector<std::byte> converted(const TensorView& tensor, DType dtype);

// The elements of a matrix (rows, columns), the tensor's two dimensions, as (columns, rows).
std::vector<std::byte> transposed(const TensorView& tensor);

// A tensor to write, whose bytes are made when the writer comes to it, so that a file larger than
// the memory can be written.
struct PendingTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  // The bytes of a TensorView of this dtype and shape: made in `room`, or lying somewhere else as
  // long as the writing lasts. May be called more than once.
  std::function<std::span<const std::byte>(std::vector<std::byte>& room)> bytes;
};
// One whose bytes are there.
PendingTensor pending(const TensorView& tensor);
std::vector<PendingTensor> pending(std::span<const TensorView> tensors);

// What a writer of files requires of them: names that are there and differ, few dimensions. Throws
// CheckpointError naming `where` and the tensor.
void check_pending(const std::string& where, std::span<const PendingTensor> tensors);
// The bytes of one, checked against its shape.
std::span<const std::byte> bytes_of(const std::string& where, const PendingTensor& tensor,
                                    std::vector<std::byte>& room);

}  // namespace rwkvx
