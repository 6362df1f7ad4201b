#include "rwkvx/kernels/round_rows.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "rwkvx/kernels/weight_matrix.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/round_rows.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "rwkvx/kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
namespace {

using F = hn::Rebind<float, D64>;
using VF = hn::VFromD<F>;
using I32 = hn::Rebind<std::int32_t, D64>;
static_assert(kSizesUnit == kSums && kInt4Group % kSums == 0);

void DividedSizes(const float* w, const double* columns, std::int64_t count, double* sizes) {
  std::int64_t i = 0;
  for (; i + kLanes64 <= count; i += kLanes64) {
    const auto size = hn::Abs(hn::PromoteTo(D64(), hn::LoadU(F(), w + i)));
    hn::StoreU(hn::Div(size, hn::LoadU(D64(), columns + i)), D64(), sizes + i);
  }
  for (; i < count; ++i) sizes[i] = std::abs(static_cast<double>(w[i])) / columns[i];
}

HWY_INLINE std::int64_t CountAtMost(const double* sizes, std::int64_t count, double limit) {
  const auto top = hn::Set(D64(), limit);
  const hn::Rebind<std::int64_t, D64> whole;
  auto found = hn::Zero(whole);
  for (std::int64_t i = 0; i < count; i += kLanes64) {
    const auto inside = hn::Le(hn::LoadU(D64(), sizes + i), top);
    found = hn::Sub(found, hn::BitCast(whole, hn::VecFromMask(D64(), inside)));
  }
  return hn::GetLane(hn::SumOfLanes(whole, found));
}

double MiddleSize(double* sizes, std::int64_t given) {
  const std::int64_t count = room_of_sizes(given);
  std::fill(sizes + given, sizes + count, 0.0);
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const auto zero = hn::Zero(D64()), inf = hn::Set(D64(), kInf);
  auto least = inf, largest = zero;
  for (std::int64_t i = 0; i < count; i += kLanes64) {
    const auto size = hn::LoadU(D64(), sizes + i);
    least = hn::Min(least, hn::IfThenElse(hn::Eq(size, zero), inf, size));
    largest = hn::Max(largest, size);
  }
  const std::int64_t zeros = CountAtMost(sizes, count, 0);
  if (zeros == count) return 0;
  // Halves the range of the numbers' bits, which are in the order of the numbers: that with place
  // `wanted` of all has more than `below` and at most `above` numbers up to its ends.
  const std::int64_t wanted = zeros + (count - zeros) / 2;
  auto low = std::bit_cast<std::uint64_t>(hn::GetLane(hn::MinOfLanes(D64(), least))) - 1;
  auto high = std::bit_cast<std::uint64_t>(hn::GetLane(hn::MaxOfLanes(D64(), largest)));
  std::int64_t below = zeros, above = count;
  while (above - below > 1 && high - low > 1) {
    const std::uint64_t mid = low + (high - low) / 2;
    const std::int64_t found = CountAtMost(sizes, count, std::bit_cast<double>(mid));
    if (found > wanted)
      high = mid, above = found;
    else
      low = mid, below = found;
  }
  const auto bottom = hn::Set(D64(), std::bit_cast<double>(low));
  least = inf;
  for (std::int64_t i = 0; i < count; i += kLanes64) {
    const auto size = hn::LoadU(D64(), sizes + i);
    least = hn::Min(least, hn::IfThenElse(hn::Gt(size, bottom), size, inf));
  }
  return hn::GetLane(hn::MinOfLanes(D64(), least));
}

void RoundInt8Row(const float* w, std::int64_t columns, std::int8_t* q, float* scale) {
  auto top = hn::Zero(F());
  std::int64_t i = 0;
  for (; i + kLanes64 <= columns; i += kLanes64) top = hn::Max(top, hn::Abs(hn::LoadU(F(), w + i)));
  float largest = hn::GetLane(hn::MaxOfLanes(F(), top));
  for (; i < columns; ++i) largest = std::max(largest, std::abs(w[i]));
  *scale = largest / 127;
  if (*scale == 0) {
    std::fill(q, q + columns, std::int8_t{0});
    return;
  }
  const auto by = hn::Set(F(), *scale), most = hn::Set(F(), 127.0f);
  const hn::Rebind<std::int8_t, F> narrow;
  for (i = 0; i + kLanes64 <= columns; i += kLanes64) {
    const auto share = hn::Div(hn::LoadU(F(), w + i), by);
    const auto inside = hn::Min(hn::Max(share, hn::Neg(most)), most);
    hn::StoreU(hn::DemoteTo(narrow, hn::NearestInt(inside)), narrow, q + i);
  }
  for (; i < columns; ++i)
    q[i] = static_cast<std::int8_t>(std::nearbyint(std::clamp(w[i] / *scale, -127.0f, 127.0f)));
}

// w / scale to the nearest of -8 .. 7.
HWY_INLINE VF NearestInt4(VF w, VF scale) {
  const auto inside = hn::Min(hn::Max(hn::Div(w, scale), hn::Set(F(), -8.0f)), hn::Set(F(), 7.0f));
  return hn::ConvertTo(F(), hn::NearestInt(inside));
}

// The squared error of a group.
HWY_INLINE double Int4Error(const float* group, float scale) {
  const auto by = hn::Set(F(), scale);
  Sums sums;
  for (std::int64_t i = 0; i < kInt4Group; i += kSums)
    for (std::int64_t v = 0; v < kVectors; ++v) {
      const auto w = hn::Load(F(), group + i + v * kLanes64);
      // Both products are exact, so fused or not they are the same.
      const auto away = hn::PromoteTo(D64(), hn::Sub(hn::Mul(NearestInt4(w, by), by), w));
      sums.of[v] = hn::MulAdd(away, away, sums.of[v]);
    }
  return sums.Total();
}

// Scales that are tried, as shares of the one that just holds the largest weight.
constexpr float kTried[] = {1.0f, 0.96f, 0.92f, 0.88f, 0.84f, 0.8f, 0.76f, 0.72f, 1.04f};

// The scale of a group, its sign chosen so that the largest weight may use -8.
HWY_INLINE float Int4Scale(const float* group) {
  auto top = hn::Zero(F());
  for (std::int64_t i = 0; i < kInt4Group; i += kLanes64)
    top = hn::Max(top, hn::Abs(hn::Load(F(), group + i)));
  const float size = hn::GetLane(hn::MaxOfLanes(F(), top));
  if (size == 0) return 0;
  const float largest = *std::find_if(group, group + kInt4Group,
                                      [&](float w) HWY_ATTR { return std::abs(w) == size; });
  double least = std::numeric_limits<double>::infinity();
  float best = 0;
  for (const float share : kTried) {
    const float scale = bf16_to_float(float_to_bf16(share * largest / -8));
    if (scale == 0) continue;
    const double error = Int4Error(group, scale);
    if (error < least) least = error, best = scale;
  }
  return best;
}

void RoundInt4Row(const float* w, std::int64_t columns, std::uint8_t* q, std::uint16_t* scales) {
  const hn::Rebind<std::uint8_t, F> narrow;
  const std::int64_t groups = (columns + kInt4Block - 1) / kInt4Block * 2;
  for (std::int64_t g = 0; g < groups; ++g) {
    HWY_ALIGN float group[kInt4Group] = {};
    const std::int64_t first = std::min(columns, g * kInt4Group);
    std::copy_n(w + first, std::min(columns - first, kInt4Group), group);
    const float scale = Int4Scale(group);
    scales[g] = float_to_bf16(scale);
    HWY_ALIGN std::uint8_t digits[kInt4Group];
    std::fill_n(digits, kInt4Group, std::uint8_t{8});
    for (std::int64_t i = 0; scale != 0 && i < kInt4Group; i += kLanes64) {
      const auto value = NearestInt4(hn::Load(F(), group + i), hn::Set(F(), scale));
      const auto digit = hn::ConvertTo(I32(), hn::Add(value, hn::Set(F(), 8.0f)));
      hn::StoreU(hn::DemoteTo(narrow, digit), narrow, digits + i);
    }
    std::uint8_t* block = q + g / 2 * (kInt4Block / 2);
    for (std::int64_t i = 0; i < kInt4Group; ++i)
      block[i] = static_cast<std::uint8_t>(g % 2 == 0 ? digits[i] : block[i] | digits[i] << 4);
  }
}

RowError RowErrorOf(const float* x, const float* w, std::int64_t columns) {
  Sums away, all;
  std::int64_t i = 0;
  for (; i + kSums <= columns; i += kSums)
    for (std::int64_t v = 0; v < kVectors; ++v) {
      const std::int64_t at = i + v * kLanes64;
      const auto weight = hn::PromoteTo(D64(), hn::LoadU(F(), w + at));
      const auto off = hn::Sub(hn::PromoteTo(D64(), hn::LoadU(F(), x + at)), weight);
      away.of[v] = hn::MulAdd(off, off, away.of[v]);
      all.of[v] = hn::MulAdd(weight, weight, all.of[v]);
    }
  RowError error{away.Total(), all.Total()};
  for (; i < columns; ++i) {
    const double weight = static_cast<double>(w[i]), off = static_cast<double>(x[i]) - weight;
    error.away += off * off;
    error.all += weight * weight;
  }
  return error;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {

HWY_EXPORT(DividedSizes);
HWY_EXPORT(MiddleSize);
HWY_EXPORT(RoundInt8Row);
HWY_EXPORT(RoundInt4Row);
HWY_EXPORT(RowErrorOf);

void divided_sizes(const float* w, const double* columns, std::int64_t count, double* sizes) {
  HWY_DYNAMIC_DISPATCH(DividedSizes)(w, columns, count, sizes);
}
double middle_size(double* sizes, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(MiddleSize)(sizes, count);
}
void round_int8_row(const float* w, std::int64_t columns, std::int8_t* q, float* scale) {
  HWY_DYNAMIC_DISPATCH(RoundInt8Row)(w, columns, q, scale);
}
void round_int4_row(const float* w, std::int64_t columns, std::uint8_t* q, std::uint16_t* scales) {
  HWY_DYNAMIC_DISPATCH(RoundInt4Row)(w, columns, q, scales);
}
RowError row_error(const float* x, const float* w, std::int64_t columns) {
  return HWY_DYNAMIC_DISPATCH(RowErrorOf)(x, w, columns);
}

}  // namespace rwkvx
#endif
