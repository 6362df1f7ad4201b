// A weight matrix as it lies in memory, in one of the precisions that the engine multiplies with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace rwkvx {

enum class WeightType { kF32, kBF16, kInt8, kInt4 };

inline constexpr char kWeightTypes[] = "f32|bf16|int8|int4";
std::string_view weight_type_name(WeightType type);
// Throws ConfigError naming `where` for a name that is none of kWeightTypes.
WeightType find_weight_type(const std::string& where, const std::string& name);

// Weights that share a scale in kInt4, and those of one packed block: two groups, whose numbers are
// the low and the high halves of its 32 bytes.
inline constexpr std::int64_t kInt4Group = 32;
inline constexpr std::int64_t kInt4Block = 64;

// Weights of an integer matrix that stay floats, because rounding would cost the others of their
// row or group too much: those of row r are columns[i], values[i] for first[r] <= i < first[r + 1].
struct WideWeights {
  const std::int32_t* first = nullptr;  // (rows + 1); null where there are none
  const std::int32_t* columns = nullptr;
  const float* values = nullptr;
};

// W (rows, columns). It owns nothing. Row after row, unless it is in panels (weight_panels.h):
//   kF32, kBF16  the numbers themselves
//   kInt8        int8 q; scales (rows) float: W = q scale column_scale
//   kInt4        blocks of kInt4Block weights, q + 8 in four bits each, the last block filled up
//                with zeros; scales (rows, 2 blocks) bfloat16, one per group
// Where a weight is wide, q is 0.
struct WeightMatrix {
  WeightType type = WeightType::kF32;
  std::int64_t rows = 0, columns = 0;
  const std::byte* values = nullptr;
  const std::byte* scales = nullptr;
  const float* column_scales = nullptr;  // (columns); null: all 1
  WideWeights wide = {};
  bool panels = false;  // `values` are in panels, which hold the scales too

  std::int64_t wide_count() const { return wide.first == nullptr ? 0 : wide.first[rows]; }
  std::int64_t blocks() const { return (columns + kInt4Block - 1) / kInt4Block; }
  // Bytes of one row of values, and of its scales, where they lie row after row.
  std::int64_t row_bytes() const;
  std::int64_t row_scale_bytes() const;
  // Bytes that a product reads at least.
  std::int64_t bytes() const {
    return rows * (row_bytes() + row_scale_bytes()) + (column_scales != nullptr ? 4 * columns : 0) +
           (wide.first != nullptr ? 4 * (rows + 1) + 8 * wide_count() : 0);
  }
};

// Rows [first, last) of a matrix that lies row after row, as floats: out (last - first, columns).
void unpack_rows(const WeightMatrix& matrix, std::int64_t first, std::int64_t last, float* out);

inline float bf16_to_float(std::uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
}
// To the nearest, ties to even; not for NaN.
inline std::uint16_t float_to_bf16(float value) {
  const auto bits = __builtin_bit_cast(std::uint32_t, value);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

}  // namespace rwkvx
