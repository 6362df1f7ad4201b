#include "rwkvx/kernels/block_codes.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "rwkvx/base/splitmix64.h"

namespace rwkvx {
namespace {

constexpr int kPerOctave = 8;
constexpr std::uint32_t kMantissa = 0x7fffff;
constexpr std::uint8_t kSign = 0x80;

// 2^(0/8) to 2^(8/8).
const std::array<float, kPerOctave + 1> kLevels = [] {
  std::array<float, kPerOctave + 1> levels{};
  for (int i = 0; i <= kPerOctave; ++i)
    levels[static_cast<std::size_t>(i)] = static_cast<float>(std::exp2(i / 8.0));
  return levels;
}();

// What codes stand for, as shares of the scale; code `top` is 1.
template <int top>
const std::array<float, top + 1>& values() {
  static const auto table = [] {
    std::array<float, top + 1> all{};
    for (int code = 1; code <= top; ++code)
      all[static_cast<std::size_t>(code)] =
          std::ldexp(kLevels[static_cast<std::size_t>((code - top) & 7)], (code - top) >> 3);
    return all;
  }();
  return table;
}

// The smallest power of two that is not below |x| for all of them; 0 where they are zeros.
float scale_of(const float* x, std::int64_t count) {
  float largest = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const float size = std::fabs(x[i]);
    if (!(size <= largest)) largest = size;  // NaN stays
  }
  if (!(largest > 0) || !std::isfinite(largest)) return largest;
  const auto bits = std::bit_cast<std::uint32_t>(std::max(largest, 0x1p-126f));
  const int exponent = static_cast<int>(bits >> 23) - 127 + ((bits & kMantissa) != 0 ? 1 : 0);
  return exponent > 127 ? largest : std::ldexp(1.0f, exponent);
}

// The code of a share 0 < r <= 1; `draw` is 0 <= draw < 1.
template <int top, bool keep_nonzero>
int code_of(float r, float draw) {
  const auto bits = std::bit_cast<std::uint32_t>(r);
  const int octave = static_cast<int>(bits >> 23) - 127;
  const float mantissa = std::bit_cast<float>((bits & kMantissa) | 0x3f800000u);
  int level = 0;
  for (int i = 1; i < kPerOctave; ++i) level += mantissa >= kLevels[static_cast<std::size_t>(i)];
  const int code = top + kPerOctave * octave + level;
  if (code >= top) return top;
  if (code < 1) return keep_nonzero || r > draw * values<top>()[1] ? 1 : 0;
  const float below = kLevels[static_cast<std::size_t>(level)];
  const float above = kLevels[static_cast<std::size_t>(level) + 1];
  return code + (mantissa - below > draw * (above - below) ? 1 : 0);
}

float drawn(std::uint64_t key, std::int64_t i) {
  return static_cast<float>(splitmix64(key + static_cast<std::uint64_t>(i)) >> 40) * 0x1p-24f;
}

}  // namespace

void encode_signed(const float* x, std::int64_t count, std::uint64_t key, std::uint8_t* codes,
                   float* scale) {
  *scale = scale_of(x, count);
  for (std::int64_t i = 0; i < count; ++i) {
    const float share = std::fabs(x[i]) / *scale;  // of a block of zeros NaN
    const int size = x[i] == 0 ? 0 : code_of<127, false>(share, drawn(key, i));
    codes[i] = static_cast<std::uint8_t>(size | (std::signbit(x[i]) && size > 0 ? kSign : 0));
  }
}

void decode_signed(const std::uint8_t* codes, float scale, std::int64_t count, float* x) {
  const auto& table = values<127>();
  for (std::int64_t i = 0; i < count; ++i) {
    const float size = table[codes[i] & 0x7f] * scale;
    x[i] = (codes[i] & kSign) != 0 ? -size : size;
  }
}

void encode_positive(const float* x, std::int64_t count, std::uint64_t key, std::uint8_t* codes,
                     float* scale) {
  *scale = scale_of(x, count);
  for (std::int64_t i = 0; i < count; ++i)
    codes[i] =
        static_cast<std::uint8_t>(x[i] == 0 ? 0 : code_of<255, true>(x[i] / *scale, drawn(key, i)));
}

void decode_positive(const std::uint8_t* codes, float scale, std::int64_t count, float* x) {
  const auto& table = values<255>();
  for (std::int64_t i = 0; i < count; ++i) x[i] = table[codes[i]] * scale;
}

}  // namespace rwkvx
