#include "rwkvx/kernels/matvec.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matvec.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
#if HWY_TARGET != HWY_SCALAR
using I32 = hn::Rebind<std::int32_t, F>;
using I16 = hn::Repartition<std::int16_t, F>;
#endif
using VF = hn::VFromD<F>;

// Vectors whose largest number is below this count as 0: its 32767th part is no normal number.
constexpr float kLeastActivation = 4e-34f;
// Steps of the 16-bit kernels after which sums of two products of 127 * 32767 still fit 31 bits.
[[maybe_unused]] constexpr std::int64_t kSafeSteps = 128;

HWY_INLINE float Sum(VF v) { return hn::GetLane(hn::SumOfLanes(F(), v)); }

// Weights that floats are multiplied with.
struct Float32 {
  using T = float;
  static HWY_INLINE VF Load(const T* from) { return hn::LoadU(F(), from); }
  static HWY_INLINE float One(T w) { return w; }
};
struct BFloat16 {
  using T = std::uint16_t;
  static HWY_INLINE VF Load(const T* from) {
    const hn::Rebind<std::uint16_t, F> narrow;
    const hn::Rebind<std::uint32_t, F> wide;
    const auto bits = hn::ShiftLeft<16>(hn::PromoteTo(wide, hn::LoadU(narrow, from)));
    return hn::BitCast(F(), bits);
  }
  static HWY_INLINE float One(T w) { return bf16_to_float(w); }
};

// R rows times S vectors; each sum runs over the columns in the same order for every R and S.
template <class W, int R, int S>
HWY_INLINE void FloatTile(const typename W::T* w, std::int64_t N, const float* x, float* y,
                          std::int64_t stride) {
  const F d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  VF sums[R][S];
  for (int r = 0; r < R; ++r)
    for (int s = 0; s < S; ++s) sums[r][s] = hn::Zero(d);
  std::int64_t c = 0;
  for (; c + lanes <= N; c += lanes) {
    VF in[S];
    for (int s = 0; s < S; ++s) in[s] = hn::LoadU(d, x + s * N + c);
    for (int r = 0; r < R; ++r) {
      const VF weights = W::Load(w + r * N + c);
      for (int s = 0; s < S; ++s) sums[r][s] = hn::MulAdd(weights, in[s], sums[r][s]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int s = 0; s < S; ++s) {
      float sum = Sum(sums[r][s]);
      for (std::int64_t i = c; i < N; ++i) sum += W::One(w[r * N + i]) * x[s * N + i];
      y[s * stride + r] = sum;
    }
}

// Vectors that R = 4 rows take at a time without running out of registers.
constexpr int kVectors = hn::MaxLanes(F()) >= 16 ? 4 : 2;

template <class W, int R>
HWY_INLINE void FloatRows(const typename W::T* w, std::int64_t N, const Activations& in, float* y,
                          std::int64_t stride) {
  std::int64_t i = 0;
  if constexpr (R <= 4)
    for (; i + kVectors <= in.count; i += kVectors)
      FloatTile<W, R, kVectors>(w, N, in.x + i * N, y + i * stride, stride);
  for (; i < in.count; ++i) FloatTile<W, R, 1>(w, N, in.x + i * N, y + i * stride, stride);
}

// One vector goes row by row, so that memory is read in one line from the first byte to the last:
// several rows side by side came to 0.7 (float32) to 0.45 (int8) of the memory's speed.
template <class W>
void FloatMatvec(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                 const Activations& in, float* y, std::int64_t stride) {
  const auto* w = reinterpret_cast<const typename W::T*>(matrix.values);
  const std::int64_t N = matrix.columns;
  std::int64_t row = first;
  if (in.count >= kVectors)
    for (; row + 4 <= last; row += 4) FloatRows<W, 4>(w + row * N, N, in, y + row, stride);
  for (; row < last; ++row) FloatRows<W, 1>(w + row * N, N, in, y + row, stride);
}

#if HWY_TARGET != HWY_SCALAR  // which has no 16-bit vectors beside 32-bit ones
// R rows of 8-bit weights times one vector of 16-bit activations. Sums are exact integers for
// kSafeSteps vectors, then floats.
template <int R>
HWY_INLINE void Int8Tile(const std::int8_t* w, const float* scales, std::int64_t N,
                         const std::int16_t* q, float q_scale, float* y) {
  const F d;
  const I32 d32;
  const I16 d16;
  const hn::Rebind<std::int8_t, I16> d8;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d16));
  VF sums[R];
  for (int r = 0; r < R; ++r) sums[r] = hn::Zero(d);
  std::int64_t c = 0;
  while (c + lanes <= N) {
    const std::int64_t end = std::min(N, c + kSafeSteps * lanes);
    hn::VFromD<I32> exact[R], spare[R];
    for (int r = 0; r < R; ++r) exact[r] = spare[r] = hn::Zero(d32);
    for (; c + lanes <= end; c += lanes) {
      const auto in = hn::LoadU(d16, q + c);
      for (int r = 0; r < R; ++r) {
        const auto weights = hn::PromoteTo(d16, hn::LoadU(d8, w + r * N + c));
        exact[r] = hn::ReorderWidenMulAccumulate(d32, weights, in, exact[r], spare[r]);
      }
    }
    for (int r = 0; r < R; ++r)
      sums[r] = hn::Add(sums[r], hn::ConvertTo(d, hn::Add(exact[r], spare[r])));
  }
  for (int r = 0; r < R; ++r) {
    float sum = Sum(sums[r]);
    for (std::int64_t i = c; i < N; ++i) sum += static_cast<float>(w[r * N + i] * q[i]);
    y[r] = sum * scales[r] * q_scale;
  }
}

void Int8Matvec(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                const Activations& in, float* y, std::int64_t stride) {
  const auto* w = reinterpret_cast<const std::int8_t*>(matrix.values);
  const auto* scales = reinterpret_cast<const float*>(matrix.scales);
  const std::int64_t N = matrix.columns, step = activation_stride(N);
  for (std::int64_t row = first; row < last;) {
    const bool many = row + 4 <= last && in.count > 1;
    for (std::int64_t i = 0; i < in.count; ++i) {
      const auto tile = many ? Int8Tile<4> : Int8Tile<1>;
      tile(w + row * N, scales + row, N, in.q + i * step, in.scale[i], y + i * stride + row);
    }
    row += many ? 4 : 1;
  }
}

// R rows of 4-bit weights times one vector.
template <int R>
HWY_INLINE void Int4Tile(const std::uint8_t* w, const std::uint16_t* scales, std::int64_t blocks,
                         const std::int16_t* q, float q_scale, float* y) {
  const F d;
  const I32 d32;
  const I16 d16;
  const hn::Rebind<std::uint8_t, I16> d8;
  constexpr std::int64_t kLanes = hn::MaxLanes(I16());
  constexpr std::int64_t kStep = kLanes < kInt4Group ? kLanes : kInt4Group;
  static_assert(kInt4Group % kStep == 0);
  const auto offset = hn::Set(d16, static_cast<std::int16_t>(8));
  const auto mask = hn::Set(d8, static_cast<std::uint8_t>(15));
  VF sums[R];
  for (int r = 0; r < R; ++r) sums[r] = hn::Zero(d);
  for (std::int64_t b = 0; b < blocks; ++b) {
    hn::VFromD<I32> low[R], high[R], spare[R];
    for (int r = 0; r < R; ++r) low[r] = high[r] = spare[r] = hn::Zero(d32);
    for (std::int64_t i = 0; i < kInt4Group; i += kStep) {
      const auto q_low = hn::LoadU(d16, q + b * kInt4Block + i);
      const auto q_high = hn::LoadU(d16, q + b * kInt4Block + kInt4Group + i);
      for (int r = 0; r < R; ++r) {
        const auto bytes = hn::LoadU(d8, w + (r * blocks + b) * (kInt4Block / 2) + i);
        const auto first = hn::PromoteTo(d16, hn::And(bytes, mask));
        const auto second = hn::PromoteTo(d16, hn::ShiftRight<4>(bytes));
        low[r] =
            hn::ReorderWidenMulAccumulate(d32, hn::Sub(first, offset), q_low, low[r], spare[r]);
        high[r] =
            hn::ReorderWidenMulAccumulate(d32, hn::Sub(second, offset), q_high, high[r], spare[r]);
      }
    }
    for (int r = 0; r < R; ++r) {
      const std::uint16_t* s = scales + (r * blocks + b) * 2;
      sums[r] = hn::MulAdd(hn::ConvertTo(d, low[r]), hn::Set(d, bf16_to_float(s[0])), sums[r]);
      sums[r] = hn::MulAdd(hn::ConvertTo(d, high[r]), hn::Set(d, bf16_to_float(s[1])), sums[r]);
    }
  }
  for (int r = 0; r < R; ++r) y[r] = Sum(sums[r]) * q_scale;
}

void Int4Matvec(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                const Activations& in, float* y, std::int64_t stride) {
  const auto* w = reinterpret_cast<const std::uint8_t*>(matrix.values);
  const auto* scales = reinterpret_cast<const std::uint16_t*>(matrix.scales);
  const std::int64_t blocks = matrix.blocks(), step = activation_stride(matrix.columns);
  for (std::int64_t row = first; row < last;) {
    const bool many = row + 4 <= last && in.count > 1;
    for (std::int64_t i = 0; i < in.count; ++i) {
      const auto tile = many ? Int4Tile<4> : Int4Tile<1>;
      tile(w + row * blocks * (kInt4Block / 2), scales + row * blocks * 2, blocks, in.q + i * step,
           in.scale[i], y + i * stride + row);
    }
    row += many ? 4 : 1;
  }
}

#endif

void MatvecRows(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                const Activations& in, float* y, std::int64_t stride) {
#if HWY_TARGET == HWY_SCALAR
  return matvec_rows_reference(matrix, first, last, in, y, stride);
#else
  switch (matrix.type) {
    case WeightType::kF32:
      return FloatMatvec<Float32>(matrix, first, last, in, y, stride);
    case WeightType::kBF16:
      return FloatMatvec<BFloat16>(matrix, first, last, in, y, stride);
    case WeightType::kInt8:
      Int8Matvec(matrix, first, last, in, y, stride);
      break;
    case WeightType::kInt4:
      Int4Matvec(matrix, first, last, in, y, stride);
      break;
  }
  if (matrix.wide.first == nullptr) return;
  for (std::int64_t row = first; row < last; ++row) {
    const auto begin = matrix.wide.first[row], end = matrix.wide.first[row + 1];
    for (std::int64_t i = 0; begin < end && i < in.count; ++i) {
      const float* x = in.x + i * matrix.columns;
      float sum = y[i * stride + row];
      for (auto at = begin; at < end; ++at)
        sum += matrix.wide.values[at] * x[matrix.wide.columns[at]];
      y[i * stride + row] = sum;
    }
  }
#endif
}

template <bool kScaled>
HWY_INLINE void QuantiseVector(const float* x, const float* by, std::int64_t columns,
                               std::int16_t* q, float* scale) {
  const F d;
  const auto at = [&](std::int64_t c) {
    const VF value = hn::LoadU(d, x + c);
    if constexpr (kScaled) return hn::Mul(value, hn::LoadU(d, by + c));
    return value;
  };
  const auto one = [&](std::int64_t c) { return kScaled ? x[c] * by[c] : x[c]; };
  const hn::Rebind<std::int16_t, F> d16;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto most = hn::Zero(d);
  auto bad = hn::IsNaN(most);
  std::int64_t c = 0;
  for (; c + lanes <= columns; c += lanes) {
    const auto size = hn::Abs(at(c));
    most = hn::Max(most, size);
    bad = hn::Or(bad, hn::Not(hn::IsFinite(size)));
  }
  float largest = hn::GetLane(hn::MaxOfLanes(d, most));
  bool finite = hn::AllFalse(d, bad);
  for (; c < columns; ++c) {
    largest = std::max(largest, std::abs(one(c)));
    finite = finite && std::isfinite(one(c));
  }
  if (!finite || largest < kLeastActivation) {
    // No 16-bit number stands for these: NaN for all of what is not finite, 0 for next to nothing.
    *scale = finite ? 0 : std::numeric_limits<float>::quiet_NaN();
    std::fill(q, q + activation_stride(columns), std::int16_t{0});
    return;
  }
  *scale = largest / 32767;
  const float inverse = 32767 / largest;
  for (c = 0; c + lanes <= columns; c += lanes) {
    const auto rounded = hn::NearestInt(hn::Mul(at(c), hn::Set(d, inverse)));
    hn::StoreU(hn::DemoteTo(d16, rounded), d16, q + c);
  }
  for (; c < columns; ++c) q[c] = static_cast<std::int16_t>(std::nearbyint(one(c) * inverse));
  for (; c < activation_stride(columns); ++c) q[c] = 0;
}

void QuantiseActivations(const float* x, const float* by, std::int64_t columns, std::int16_t* q,
                         float* scale) {
  if (by != nullptr) return QuantiseVector<true>(x, by, columns, q, scale);
  QuantiseVector<false>(x, nullptr, columns, q, scale);
}

std::uint64_t ReadBytes(const std::byte* from, std::int64_t count) {
  const hn::ScalableTag<std::uint64_t> d;
  const auto bytes = static_cast<std::int64_t>(hn::Lanes(d) * sizeof(std::uint64_t));
  constexpr int kStreams = 8;
  auto sums = hn::Zero(d);
  std::int64_t at = 0;
  for (; at + kStreams * bytes <= count; at += kStreams * bytes) {
    auto some = hn::Zero(d);
    for (int i = 0; i < kStreams; ++i)
      some = hn::Xor(some,
                     hn::LoadU(d, reinterpret_cast<const std::uint64_t*>(from + at + i * bytes)));
    sums = hn::Xor(sums, some);
  }
  return hn::GetLane(sums);
}

}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {

void matvec_rows_reference(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                           const Activations& activations, float* y, std::int64_t stride) {
  const std::int64_t N = matrix.columns;
  std::vector<float> w(static_cast<std::size_t>(N));
  for (std::int64_t row = first; row < last; ++row) {
    unpack_rows(matrix, row, row + 1, w.data());
    for (std::int64_t i = 0; i < activations.count; ++i) {
      double sum = 0;
      for (std::int64_t c = 0; c < N; ++c)
        sum += static_cast<double>(w[static_cast<std::size_t>(c)]) * activations.x[i * N + c];
      y[i * stride + row] = static_cast<float>(sum);
    }
  }
}

HWY_EXPORT(MatvecRows);
HWY_EXPORT(QuantiseActivations);
HWY_EXPORT(ReadBytes);

void matvec_rows(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                 const Activations& activations, float* y, std::int64_t stride) {
  HWY_DYNAMIC_DISPATCH(MatvecRows)(matrix, first, last, activations, y, stride);
}
void quantize_activations(const float* x, const float* column_scales, std::int64_t columns,
                          std::int16_t* q, float* scale) {
  HWY_DYNAMIC_DISPATCH(QuantiseActivations)(x, column_scales, columns, q, scale);
}
std::uint64_t read_bytes(const std::byte* from, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(ReadBytes)(from, count);
}

}  // namespace rwkvx
#endif
