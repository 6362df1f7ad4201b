#include "rwkvx/kernels/weight_matrix.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>

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
    q[i] = static_cast<std::int8_t>(
        *scale > 0 ? std::clamp(std::nearbyint(w[i] / *scale), -127.0f, 127.0f) : 0);
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

// Rows that are looked at to find what is usual in a column.
constexpr std::int64_t kSampledRows = 2048;
// Column scales are within this factor of the middle one, so that products stay floats.
constexpr float kWidestScale = 0x1p60f;
// A weight this many times the usual one of its row is rounded by a step that is 0.25 (int4) and
// 0.03 (int8) of the usual weight in the root mean square, three times what normally distributed
// weights lose: it stays wide.
constexpr double kWideInt4 = 7, kWideInt8 = 13;
// At most one weight of this many stays wide: a wide one takes eight bytes.
constexpr std::int64_t kWideShare = 256;

// The standard deviation that normally distributed weights of the same median would have; zeros do
// not count. Reorders `sizes`.
double usual(std::vector<double>& sizes) {
  std::erase(sizes, 0.0);
  if (sizes.empty()) return 0;
  const auto middle = sizes.begin() + static_cast<std::ptrdiff_t>(sizes.size() / 2);
  std::nth_element(sizes.begin(), middle, sizes.end());
  return 1.4826 * *middle;
}

// What is usual in each row when column c is divided by `columns[c]`.
std::vector<double> usual_of_rows(const float* w, std::int64_t rows, std::int64_t step,
                                  const std::vector<double>& columns) {
  std::vector<double> found, sizes;
  const auto N = columns.size();
  for (std::int64_t row = 0; row < rows; row += step) {
    sizes.resize(N);
    for (std::size_t c = 0; c < N; ++c)
      sizes[c] =
          std::abs(static_cast<double>(w[static_cast<std::size_t>(row) * N + c])) / columns[c];
    found.push_back(usual(sizes));
  }
  return found;
}

// The scale of each column. Medians, so that neither single weights nor rows and columns that are
// large as a whole move those of the others; then means of squares, which are less noisy, of what
// is not far from them.
std::vector<float> find_column_scales(const float* w, std::int64_t rows, std::int64_t columns) {
  const auto N = static_cast<std::size_t>(columns);
  const std::int64_t step = std::max<std::int64_t>(1, rows / kSampledRows);
  std::vector<double> scales(N, 1), sizes;
  for (const bool mean : {false, true}) {
    const auto of_rows = usual_of_rows(w, rows, step, scales);
    for (std::size_t c = 0; c < N; ++c) {
      double sum = 0;
      std::int64_t count = 0;
      sizes.clear();
      for (std::size_t i = 0; i < of_rows.size(); ++i) {
        const double value = w[i * static_cast<std::size_t>(step) * N + c];
        if (of_rows[i] == 0 || value == 0) continue;
        const double size = std::abs(value) / of_rows[i];
        if (!mean) {
          sizes.push_back(size);
          continue;
        }
        const double share = std::min(size / scales[c], 4.0);
        sum += share * share;
        ++count;
      }
      const double found =
          mean ? (count > 0 ? std::sqrt(sum / static_cast<double>(count)) : 1) * scales[c]
               : usual(sizes);
      scales[c] = found > 0 ? found : 1;
    }
  }
  sizes = scales;
  std::nth_element(sizes.begin(), sizes.begin() + columns / 2, sizes.end());
  const double middle = sizes[N / 2];
  std::vector<float> out(N);
  for (std::size_t c = 0; c < N; ++c)
    out[c] = std::clamp(static_cast<float>(scales[c] / middle), 1 / kWidestScale, kWidestScale);
  return out;
}

// The size from which a weight of each row stays wide.
std::vector<double> find_wide_sizes(const float* w, std::int64_t rows,
                                    const std::vector<float>& column_scales, double times) {
  const auto N = static_cast<std::int64_t>(column_scales.size());
  const std::vector<double> scales(column_scales.begin(), column_scales.end());
  const auto of_rows = usual_of_rows(w, rows, 1, scales);
  std::vector<double> shares;  // of the weights that might be wide
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t c = 0; c < N; ++c) {
      const double size =
          std::abs(static_cast<double>(w[row * N + c])) / scales[static_cast<std::size_t>(c)];
      if (const double of_row = of_rows[static_cast<std::size_t>(row)]; size > times * of_row)
        shares.push_back(size / of_row);
    }
  const auto most = static_cast<std::size_t>(rows * N / kWideShare);
  if (shares.size() > most) {
    const auto last = shares.begin() + static_cast<std::ptrdiff_t>(most);
    std::nth_element(shares.begin(), last, shares.end(), std::greater<>());
    times = *last;
  }
  std::vector<double> sizes;
  for (const double of_row : of_rows) sizes.push_back(times * of_row);
  return sizes;
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
  const bool integer = type == WeightType::kInt8 || type == WeightType::kInt4;
  std::vector<double> wide_sizes;
  if (integer) {
    out.column_scales = find_column_scales(values, rows, columns);
    wide_sizes = find_wide_sizes(values, rows, out.column_scales,
                                 type == WeightType::kInt4 ? kWideInt4 : kWideInt8);
    out.outlier_columns =
        std::ranges::count_if(out.column_scales, [](float s) { return s > 4 || s < 0.25f; });
    out.wide_first.push_back(0);
  }
  std::vector<float> back(static_cast<std::size_t>(columns)), divided;
  double wrong = 0;
  std::int64_t filled = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    const float* w = values + row * columns;
    if (integer) {
      divided.assign(w, w + columns);
      for (std::int64_t i = 0; i < columns; ++i) {
        auto& one = divided[static_cast<std::size_t>(i)];
        one /= out.column_scales[static_cast<std::size_t>(i)];
        if (std::abs(static_cast<double>(one)) > wide_sizes[static_cast<std::size_t>(row)]) {
          out.wide_columns.push_back(static_cast<std::int32_t>(i));
          out.wide_values.push_back(w[i]);
          one = 0;
        }
      }
      out.wide_first.push_back(static_cast<std::int32_t>(out.wide_columns.size()));
      w = divided.data();
    }
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
    double away = 0, all = 0;
    for (std::int64_t i = 0; i < columns; ++i) {
      const double off = static_cast<double>(back[static_cast<std::size_t>(i)]) - w[i];
      away += off * off;
      all += static_cast<double>(w[i]) * w[i];
    }
    if (all > 0) wrong += away / all, ++filled;
  }
  out.relative_error = filled > 0 ? std::sqrt(wrong / static_cast<double>(filled)) : 0;
  if (integer) {
    out.view.column_scales = out.column_scales.data();
    if (!out.wide_columns.empty())
      out.view.wide = {out.wide_first.data(), out.wide_columns.data(), out.wide_values.data()};
  }
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
    if (matrix.column_scales != nullptr)
      for (std::int64_t i = 0; i < N; ++i) out[i] *= matrix.column_scales[i];
    if (matrix.wide.first == nullptr) continue;
    for (auto i = matrix.wide.first[row]; i < matrix.wide.first[row + 1]; ++i)
      out[matrix.wide.columns[i]] = matrix.wide.values[i];
  }
}

}  // namespace rwkvx
