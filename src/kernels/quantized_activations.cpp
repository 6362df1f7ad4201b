#include "rwkvx/kernels/quantized_activations.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/quantized_activations.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using VF = hn::VFromD<F>;
#if HWY_TARGET != HWY_SCALAR  // which has no 16-bit vectors beside 32-bit ones
using I16 = hn::Repartition<std::int16_t, F>;
using V16 = hn::VFromD<I16>;
#endif

// Vectors whose largest number is below this count as 0: its 32767th part is no normal number.
constexpr float kLeastActivation = 4e-34f;

template <bool kScaled>
HWY_INLINE void QuantizeVector(const float* x, const float* by, std::int64_t columns,
                               std::int64_t padded, std::int16_t* q, float* scale) {
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
    std::fill(q, q + padded, std::int16_t{0});
    return;
  }
  *scale = largest / 32767;
  const float inverse = 32767 / largest;
  for (c = 0; c + lanes <= columns; c += lanes) {
    const auto rounded = hn::NearestInt(hn::Mul(at(c), hn::Set(d, inverse)));
    hn::StoreU(hn::DemoteTo(d16, rounded), d16, q + c);
  }
  for (; c < columns; ++c) q[c] = static_cast<std::int16_t>(std::nearbyint(one(c) * inverse));
  for (; c < padded; ++c) q[c] = 0;
}

// Brings `padded` numbers into the order in which the int4 products of matvec.cpp meet them, and
// puts the sums of the groups after them. Numbers of vectors of weights follow each other; those of
// one vector are the even ones and the odd ones of its low groups, then of its high groups.
void ArrangeForInt4(std::int64_t padded, std::int16_t* q) {
  auto* sums = reinterpret_cast<float*>(q + padded);
  for (std::int64_t g = 0; g < padded / kInt4Group; ++g) {
    std::int32_t sum = 0;
    for (std::int64_t i = 0; i < kInt4Group; ++i) sum += q[g * kInt4Group + i];
    sums[g] = static_cast<float>(sum);
  }
#if HWY_TARGET != HWY_SCALAR
  const I16 d;
  constexpr std::int64_t W = hn::MaxLanes(d);
  constexpr std::int64_t kUnit = std::max<std::int64_t>(kInt4Block, 4 * W);
  constexpr std::int64_t kGroupVectors = std::max<std::int64_t>(1, kInt4Group / W);
  // Where a low or high group goes on after its first vector: in the next vector, or block.
  constexpr std::int64_t kSecond = W > kInt4Group / 2 ? 2 : 1;
  for (std::int64_t at = 0; at < padded; at += kUnit) {
    V16 from[kUnit / W];
    for (std::int64_t i = 0; i < kUnit / W; ++i) from[i] = hn::LoadU(d, q + at + i * W);
    std::int16_t* to = q + at;
    for (std::int64_t v = 0; v < kUnit / (4 * W); ++v)
      for (std::int64_t high = 0; high < 2; ++high, to += 2 * W) {
        const auto one = from[2 * v + high * kGroupVectors];
        const auto two = from[2 * v + high * kGroupVectors + kSecond];
        hn::StoreU(hn::ConcatEven(d, two, one), d, to);
        hn::StoreU(hn::ConcatOdd(d, two, one), d, to + W);
      }
  }
#endif
}

void QuantizeActivations(const WeightMatrix& matrix, const float* x, std::int16_t* q,
                         float* scale) {
  const bool int4 = matrix.type == WeightType::kInt4;
  const std::int64_t N = matrix.columns, padded = int4 ? int4_groups_at(N) : N;
  if (const float* by = matrix.column_scales; by != nullptr)
    QuantizeVector<true>(x, by, N, padded, q, scale);
  else
    QuantizeVector<false>(x, nullptr, N, padded, q, scale);
  if (int4) ArrangeForInt4(padded, q);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {

HWY_EXPORT(QuantizeActivations);

void quantize_activations(const WeightMatrix& matrix, const float* x, std::int16_t* q,
                          float* scale) {
  HWY_DYNAMIC_DISPATCH(QuantizeActivations)(matrix, x, q, scale);
}

}  // namespace rwkvx
#endif
