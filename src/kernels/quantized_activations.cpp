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

using F = hn::CappedTag<float, kInt4Group>;
using VF = hn::VFromD<F>;
using I32 = hn::Rebind<std::int32_t, F>;

// x[c], times its column's scale.
struct Scaled {
  const float* x;
  const float* by;  // null: 1
  template <class D>
  HWY_INLINE hn::VFromD<D> At(D d, std::int64_t c) const {
    const auto value = hn::LoadU(d, x + c);
    return by == nullptr ? value : hn::Mul(value, hn::LoadU(d, by + c));
  }
};

constexpr std::int64_t kLanes = hn::MaxLanes(F());
using One = hn::CappedTag<float, 1>;

// The scale of columns [first, last), whose largest number becomes the integer `most`; what numbers
// are to be multiplied with in *inverse, 0 where they are no integers of that scale.
HWY_INLINE float FindScale(const Scaled& x, std::int64_t first, std::int64_t last, float most,
                           float* inverse) {
  const F d;
  auto largest = hn::Zero(d);
  auto bad = hn::IsNaN(largest);
  std::int64_t c = first;
  for (; c + kLanes <= last; c += kLanes) {
    const auto size = hn::Abs(x.At(d, c));
    largest = hn::Max(largest, size);
    bad = hn::Or(bad, hn::Not(hn::IsFinite(size)));
  }
  float of_all = hn::GetLane(hn::MaxOfLanes(d, largest));
  bool finite = hn::AllFalse(d, bad);
  for (; c < last; ++c) {
    const float size = std::abs(hn::GetLane(x.At(One(), c)));
    of_all = std::max(of_all, size);
    finite = finite && std::isfinite(size);
  }
  *inverse = 0;
  if (!finite) return std::numeric_limits<float>::quiet_NaN();
  if (of_all < kLeastActivation) return 0;
  *inverse = most / of_all;
  return of_all * (1 / most);
}

// q <- columns [first, last) as integers; returns their sum.
template <class T>
HWY_INLINE std::int32_t Round(const Scaled& x, std::int64_t first, std::int64_t last, float inverse,
                              T* q) {
  const F d;
  const I32 wide;
  const hn::Rebind<T, F> narrow;
  auto sums = hn::Zero(wide);
  std::int64_t c = first;
  for (; c + kLanes <= last; c += kLanes) {
    const auto rounded = hn::NearestInt(hn::Mul(x.At(d, c), hn::Set(d, inverse)));
    hn::StoreU(hn::DemoteTo(narrow, rounded), narrow, q + c);
    sums = hn::Add(sums, rounded);
  }
  std::int32_t sum = hn::GetLane(hn::SumOfLanes(wide, sums));
  for (; c < last; ++c) {
    const auto rounded = std::nearbyint(hn::GetLane(x.At(One(), c)) * inverse);
    q[c] = static_cast<T>(rounded);
    sum += q[c];
  }
  return sum;
}

// The same for T's whole range of sizes, with the scale found; integers of what has none are 0.
template <class T>
HWY_INLINE std::int32_t QuantizeColumns(const Scaled& x, std::int64_t first, std::int64_t last,
                                        T* q, float* scale) {
  float inverse;
  *scale = FindScale(x, first, last, std::numeric_limits<T>::max(), &inverse);
  if (inverse != 0) return Round(x, first, last, inverse, q);
  std::fill(q + first, q + last, T{0});
  return 0;
}

void Quantize(const WeightMatrix& matrix, const float* x, std::byte* to) {
  const std::int64_t N = matrix.columns;
  const QuantizedLayout layout(matrix.type, N);
  const Scaled in{x, matrix.column_scales};
  auto* scales = reinterpret_cast<float*>(to + layout.scales);
  if (matrix.type == WeightType::kInt8) {
    auto* q = reinterpret_cast<std::int16_t*>(to);
    QuantizeColumns(in, 0, N, q, scales);
    std::fill(q + N, q + layout.scales / 2, std::int16_t{0});
    return;
  }
  auto* q = reinterpret_cast<std::int8_t*>(to);
  auto* starts = reinterpret_cast<std::int32_t*>(to + layout.starts);
  std::fill(q + N, q + layout.scales, std::int8_t{0});
  for (std::int64_t g = 0; g < layout.scales / kInt4Group; ++g) {
    const std::int64_t first = std::min(g * kInt4Group, N), last = std::min(first + kInt4Group, N);
    starts[g] = -8 * QuantizeColumns(in, first, last, q, scales + g);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {

HWY_EXPORT(Quantize);

QuantizedLayout::QuantizedLayout(WeightType type, std::int64_t columns) {
  const auto padded = [](std::int64_t count, std::int64_t unit) {
    return (count + unit - 1) / unit * unit;
  };
  if (type == WeightType::kInt8) {
    scales = 2 * padded(columns, 4);
    starts = scales + 4;
    bytes = padded(starts, 64);
  } else {
    scales = padded(columns, kInt4Block);
    starts = scales + scales / kInt4Group * 4;
    bytes = padded(starts + scales / kInt4Group * 4, 64);
  }
}

void quantize_activations(const WeightMatrix& matrix, const float* x, std::byte* to) {
  HWY_DYNAMIC_DISPATCH(Quantize)(matrix, x, to);
}

}  // namespace rwkvx
#endif
