#include "rwkvx/engine/weight_matrix.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "rwkvx/base/error.h"
#include "rwkvx/base/nearest.h"

namespace rwkvx {
namespace {

constexpr std::array<std::string_view, 4> kNames{"f32", "bf16", "int8", "int4"};

// Scales of a group that are tried, as shares of the one that just holds its largest weight.
constexpr std::array<float, 9> kTried{1.0f, 0.96f, 0.92f, 0.88f, 0.84f, 0.8f, 0.76f, 0.72f, 1.04f};

int nearest_int4(float value) {
  return static_cast<int>(std::clamp(std::nearbyint(value), -8.0f, 7.0f));
}

// The scale of a group, its sign chosen so that the largest weight may use -8.
float int4_scale(const float* w, std::int64_t count) {
  float largest = 0;
  for (std::int64_t i = 0; i < count; ++i)
    if (std::abs(w[i]) > std::abs(largest)) largest = w[i];
  if (largest == 0) return 0;
  double least = INFINITY;
  float best = 0;
  for (const float share : kTried) {
    const float scale = bf16_to_float(float_to_bf16(share * largest / -8));
    if (scale == 0) continue;
    double error = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const double away = static_cast<float>(nearest_int4(w[i] / scale)) * scale - w[i];
      error += away * away;
    }
    if (error < least) least = error, best = scale;
  }
  return best;
}

void round_int8_row(const float* w, std::int64_t columns, std::int8_t* q, float* scale) {
  float largest = 0;
  for (std::int64_t i = 0; i < columns; ++i) largest = std::max(largest, std::abs(w[i]));
  *scale = largest / 127;
  for (std::int64_t i = 0; i < columns; ++i)
    q[i] = static_cast<std::int8_t>(*scale > 0 ? std::nearbyint(w[i] / *scale) : 0);
}

void round_int4_row(const float* w, std::int64_t columns, std::uint8_t* q, std::uint16_t* scales) {
  const std::int64_t blocks = (columns + kInt4Block - 1) / kInt4Block;
  for (std::int64_t g = 0; g < 2 * blocks; ++g) {
    const std::int64_t first = g * kInt4Group,
                       count = std::clamp<std::int64_t>(columns - first, 0, kInt4Group);
    const float scale = int4_scale(w + first, count);
    scales[g] = float_to_bf16(scale);
    std::uint8_t* block = q + g / 2 * (kInt4Block / 2);
    for (std::int64_t i = 0; i < kInt4Group; ++i) {
      const int value = i < count && scale != 0 ? nearest_int4(w[first + i] / scale) : 0;
      const auto nibble = static_cast<std::uint8_t>(value + 8);
      block[i] = g % 2 == 0 ? nibble : static_cast<std::uint8_t>(block[i] | nibble << 4);
    }
  }
}

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

RoundedMatrix round_matrix(const float* values, std::int64_t rows, std::int64_t columns,
                           WeightType type) {
  RoundedMatrix out;
  out.view = {type, rows, columns, nullptr, nullptr};
  out.values.resize(static_cast<std::size_t>(rows * out.view.row_bytes()));
  out.scales.resize(static_cast<std::size_t>(rows * out.view.row_scale_bytes()));
  out.view.values = out.values.data();
  out.view.scales = out.scales.data();
  std::vector<float> back(static_cast<std::size_t>(columns));
  double wrong = 0, all = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    const float* w = values + row * columns;
    std::byte* to = out.values.data() + row * out.view.row_bytes();
    std::byte* scale = out.scales.data() + row * out.view.row_scale_bytes();
    switch (type) {
      case WeightType::kF32:
        std::memcpy(to, w, static_cast<std::size_t>(4 * columns));
        break;
      case WeightType::kBF16:
        for (std::int64_t i = 0; i < columns; ++i)
          reinterpret_cast<std::uint16_t*>(to)[i] = float_to_bf16(w[i]);
        break;
      case WeightType::kInt8:
        round_int8_row(w, columns, reinterpret_cast<std::int8_t*>(to),
                       reinterpret_cast<float*>(scale));
        break;
      case WeightType::kInt4:
        round_int4_row(w, columns, reinterpret_cast<std::uint8_t*>(to),
                       reinterpret_cast<std::uint16_t*>(scale));
        break;
    }
    unpack_rows(out.view, row, row + 1, back.data());
    for (std::int64_t i = 0; i < columns; ++i) {
      const double away = static_cast<double>(back[static_cast<std::size_t>(i)]) - w[i];
      wrong += away * away;
      all += static_cast<double>(w[i]) * w[i];
    }
  }
  out.relative_error = all > 0 ? std::sqrt(wrong / all) : 0;
  return out;
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
  }
}

}  // namespace rwkvx
