#include "rwkvx/formats/tensor.h"

#include <array>
#include <bit>
#include <cstring>

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

}  // namespace rwkvx
