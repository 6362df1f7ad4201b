#include "rwkvx/kernels/weight_matrix.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "rwkvx/base/error.h"
#include "rwkvx/base/nearest.h"

namespace rwkvx {
namespace {

constexpr std::array<std::string_view, 4> kNames{"f32", "bf16", "int8", "int4"};

}  // namespace

std::string_view weight_type_name(WeightType type) {
  return kNames[static_cast<std::size_t>(type)];
}

WeightType find_weight_type(const std::string& where, const std::string& name) {
  for (std::size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == name) return static_cast<WeightType>(i);
  throw ConfigError(where, "\"" + name + "\" is none of " + kWeightTypes +
                               did_you_mean(name, {kNames.begin(), kNames.end()}));
}

std::int64_t WeightMatrix::row_bytes() const {
  switch (type) {
    case WeightType::kF32:
      return 4 * columns;
    case WeightType::kBF16:
      return 2 * columns;
    case WeightType::kInt8:
      return columns;
    case WeightType::kInt4:
      return blocks() * kInt4Block / 2;
  }
  return 0;
}

std::int64_t WeightMatrix::row_scale_bytes() const {
  if (type == WeightType::kInt8) return 4;
  return type == WeightType::kInt4 ? 4 * blocks() : 0;
}

void unpack_rows(const WeightMatrix& matrix, std::int64_t first, std::int64_t last, float* out) {
  const std::int64_t N = matrix.columns;
  for (std::int64_t row = first; row < last; ++row, out += N) {
    const std::byte* from = matrix.values + row * matrix.row_bytes();
    const std::byte* scales = matrix.scales + row * matrix.row_scale_bytes();
    switch (matrix.type) {
      case WeightType::kF32:
        std::memcpy(out, from, static_cast<std::size_t>(4 * N));
        break;
      case WeightType::kBF16:
        for (std::int64_t i = 0; i < N; ++i)
          out[i] = bf16_to_float(reinterpret_cast<const std::uint16_t*>(from)[i]);
        break;
      case WeightType::kInt8: {
        float scale = 0;
        std::memcpy(&scale, scales, sizeof scale);
        for (std::int64_t i = 0; i < N; ++i)
          out[i] = static_cast<float>(reinterpret_cast<const std::int8_t*>(from)[i]) * scale;
        break;
      }
      case WeightType::kInt4:
        for (std::int64_t first_of = 0; first_of < N; first_of += kInt4Group) {
          const std::int64_t g = first_of / kInt4Group;
          const float scale = bf16_to_float(reinterpret_cast<const std::uint16_t*>(scales)[g]);
          const auto* block =
              reinterpret_cast<const std::uint8_t*>(from) + g / 2 * (kInt4Block / 2);
          const int shift = g % 2 * 4;
          for (std::int64_t i = 0; i < std::min(kInt4Group, N - first_of); ++i)
            out[first_of + i] = static_cast<float>((block[i] >> shift & 15) - 8) * scale;
        }
        break;
    }
    if (matrix.column_scales != nullptr)
      for (std::int64_t i = 0; i < N; ++i) out[i] *= matrix.column_scales[i];
    if (matrix.wide.first == nullptr) continue;
    for (auto i = matrix.wide.first[row]; i < matrix.wide.first[row + 1]; ++i)
      out[matrix.wide.columns[i]] = matrix.wide.values[i];
  }
}

}  // namespace rwkvx
