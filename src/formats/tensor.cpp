#include "rwkvx/formats/tensor.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <unordered_set>

#include "formats/format.h"
#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

static_assert(std::endian::native == std::endian::little,
              "tensor files are little-endian and are used as they are mapped");

struct DTypeRow {
  DType dtype;
  std::string_view name;
  std::size_t size;
};
constexpr std::array kDTypes{
    DTypeRow{DType::kF64, "F64", 8},   DTypeRow{DType::kF32, "F32", 4},
    DTypeRow{DType::kF16, "F16", 2},   DTypeRow{DType::kBF16, "BF16", 2},
    DTypeRow{DType::kI64, "I64", 8},   DTypeRow{DType::kI32, "I32", 4},
    DTypeRow{DType::kI16, "I16", 2},   DTypeRow{DType::kI8, "I8", 1},
    DTypeRow{DType::kU64, "U64", 8},   DTypeRow{DType::kU32, "U32", 4},
    DTypeRow{DType::kU16, "U16", 2},   DTypeRow{DType::kU8, "U8", 1},
    DTypeRow{DType::kBool, "BOOL", 1},
};

const DTypeRow& row_of(DType dtype) {
  for (const auto& row : kDTypes)
    if (row.dtype == dtype) return row;
  return kDTypes[1];  // not reached: every enumerator has its row
}

float from_half(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 31u, fraction = half & 1023u;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // zero or subnormal: exact
  return sign != 0 ? -magnitude : magnitude;
}

// To the nearest, ties to even; NaN stays NaN.
std::uint16_t to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// The same; infinity from half of the step above the largest number, 65504.
std::uint16_t to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;
  if (magnitude < 0x38800000u) {  // below 2^-14: a multiple of 2^-24
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p24f;  // exact
    return sign | static_cast<std::uint16_t>(std::nearbyintf(scaled));
  }
  const std::uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return sign | static_cast<std::uint16_t>((rounded >> 13) - (112u << 10));
}

// bytes may be unaligned.
template <class Stored, class Convert>
std::vector<float> convert_all(std::span<const std::byte> bytes, const Convert& convert) {
  std::vector<float> values(bytes.size() / sizeof(Stored));
  for (std::size_t i = 0; i < values.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    values[i] = convert(stored);
  }
  return values;
}

}  // namespace

std::string shown(std::string_view text) {
  constexpr std::size_t kShown = 200;
  return text.size() <= kShown ? std::string(text) : std::string(text.substr(0, kShown)) + "…";
}

std::optional<DType> dtype_from(std::string_view name) {
  for (const auto& row : kDTypes)
    if (row.name == name) return row.dtype;
  return std::nullopt;
}

std::string dtype_names() {
  std::string names;
  for (const auto& row : kDTypes) names += " " + std::string(row.name);
  return names;
}

std::string_view dtype_name(DType dtype) { return row_of(dtype).name; }
std::size_t dtype_size(DType dtype) { return row_of(dtype).size; }

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i)
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + ")";
}

std::optional<std::uint64_t> byte_count(DType dtype, std::span<const std::int64_t> shape) {
  std::int64_t bytes = static_cast<std::int64_t>(dtype_size(dtype));
  bool empty = false;
  for (const auto size : shape) {
    empty = empty || size == 0;
    if (size < 0 || __builtin_mul_overflow(bytes, std::max<std::int64_t>(size, 1), &bytes))
      return std::nullopt;
  }
  return empty ? 0 : static_cast<std::uint64_t>(bytes);
}

std::int64_t TensorView::numel() const {
  std::int64_t count = 1;
  for (const auto size : shape) count *= size;
  return count;
}

std::vector<float> to_float32(const TensorView& tensor) {
  switch (tensor.dtype) {
    case DType::kF64:
      return convert_all<double>(tensor.bytes, [](double x) { return static_cast<float>(x); });
    case DType::kF32:
      return convert_all<float>(tensor.bytes, [](float x) { return x; });
    case DType::kF16:
      return convert_all<std::uint16_t>(tensor.bytes, from_half);
    case DType::kBF16:
      return convert_all<std::uint16_t>(tensor.bytes, [](std::uint16_t x) {
        return std::bit_cast<float>(static_cast<std::uint32_t>(x) << 16);
      });
    default:
      throw CheckpointError(shown(tensor.name),
                            "expected numbers of dtype F64, F32, F16 or BF16, "
                            "got " +
                                std::string(dtype_name(tensor.dtype)));
  }
}

std::vector<std::byte> converted(const TensorView& tensor, DType dtype) {
  if (tensor.dtype == dtype) return {tensor.bytes.begin(), tensor.bytes.end()};
  const auto values = to_float32(tensor);
  std::vector<std::byte> bytes(values.size() * dtype_size(dtype));
  if (dtype == DType::kF32) {
    if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }
  if (dtype != DType::kF16 && dtype != DType::kBF16)
    throw CheckpointError(
        shown(tensor.name),
        "cannot be converted to " + std::string(dtype_name(dtype)) + "; expected F32, F16 or BF16");
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto small = dtype == DType::kF16 ? to_half(values[i]) : to_bfloat16(values[i]);
    if (dtype == DType::kF16 && (small & 0x7fffu) == 0x7c00u && std::isfinite(values[i]))
      throw CheckpointError(shown(tensor.name),
                            "holds " + std::to_string(values[i]) +
                                ", and the largest number of F16 is 65504; choose bf16 or f32");
    std::memcpy(bytes.data() + 2 * i, &small, 2);
  }
  return bytes;
}

std::vector<std::byte> transposed(const TensorView& tensor) {
  const auto rows = static_cast<std::size_t>(tensor.shape[0]),
             columns = static_cast<std::size_t>(tensor.shape[1]), size = dtype_size(tensor.dtype);
  std::vector<std::byte> out(tensor.bytes.size());
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < columns; ++j)
      std::memcpy(out.data() + (j * rows + i) * size,
                  tensor.bytes.data() + (i * columns + j) * size, size);
  return out;
}

PendingTensor pending(const TensorView& tensor) {
  return {tensor.name, tensor.dtype, tensor.shape,
          [bytes = tensor.bytes](std::vector<std::byte>&) { return bytes; }};
}

std::vector<PendingTensor> pending(std::span<const TensorView> tensors) {
  std::vector<PendingTensor> all;
  for (const auto& tensor : tensors) all.push_back(pending(tensor));
  return all;
}

void check_pending(const std::string& where, std::span<const PendingTensor> tensors) {
  std::unordered_set<std::string_view> names;
  for (const auto& tensor : tensors) {
    const auto fail = [&](const std::string& reason) {
      throw CheckpointError(where + ": " + shown(tensor.name), reason);
    };
    if (tensor.name.empty()) fail("a tensor cannot have this name");
    if (!names.insert(tensor.name).second) fail("two tensors have this name");
    if (tensor.shape.size() > kMaxDimensions)
      fail("has more than " + std::to_string(kMaxDimensions) + " dimensions");
    if (!byte_count(tensor.dtype, tensor.shape))
      fail("shape " + shape_text(tensor.shape) + " does not fit a file");
  }
}

std::span<const std::byte> bytes_of(const std::string& where, const PendingTensor& tensor,
                                    std::vector<std::byte>& room) {
  const auto bytes = tensor.bytes(room);
  const auto wanted = byte_count(tensor.dtype, tensor.shape);
  if (!wanted || *wanted != bytes.size())
    throw CheckpointError(where + ": " + shown(tensor.name),
                          "shape " + shape_text(tensor.shape) + " of " +
                              std::string(dtype_name(tensor.dtype)) + " does not fit its " +
                              std::to_string(bytes.size()) + " bytes");
  return bytes;
}

}  // namespace rwkvx
