#include "rwkvx/kernels/softmax.h"

#include <limits>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/softmax.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include <hwy/contrib/algo/find-inl.h>
#include "rwkvx/kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
namespace {

// Calls use(kSums numbers of x from i on) for all; the last ones are filled up with -inf.
template <class Value, class Use>
HWY_INLINE void ForSums(Value* x, std::int64_t count, const Use& use) {
  std::int64_t i = 0;
  for (; i + kSums <= count; i += kSums) use(x + i);
  if (i == count) return;
  HWY_ALIGN std::remove_const_t<Value> rest[kSums];
  for (std::int64_t s = 0; s < kSums; ++s)
    rest[s] = i + s < count ? x[i + s] : -std::numeric_limits<Value>::infinity();
  use(static_cast<Value*>(rest));
  if constexpr (!std::is_const_v<Value>)
    for (std::int64_t s = 0; i + s < count; ++s) x[i + s] = rest[s];
}

// The largest of kSums numbers in each place, then of all.
template <class Value>
HWY_INLINE Value Largest(const Value* x, std::int64_t count) {
  const hn::CappedTag<Value, kSums> d;
  constexpr std::int64_t kLanesOf = hn::MaxLanes(d);
  hn::VFromD<decltype(d)> top[kSums / kLanesOf];
  for (auto& one : top) one = hn::Set(d, -std::numeric_limits<Value>::infinity());
  ForSums(x, count, [&](const Value* at) HWY_ATTR {
    for (std::int64_t v = 0; v < kSums / kLanesOf; ++v) {
      const auto some = hn::LoadU(d, at + v * kLanesOf);
      top[v] = hn::IfThenElse(hn::Gt(some, top[v]), some, top[v]);
    }
  });
  HWY_ALIGN Value all[kSums];
  for (std::int64_t v = 0; v < kSums / kLanesOf; ++v) hn::Store(top[v], d, all + v * kLanesOf);
  Value largest = all[0];
  for (const Value one : all) largest = one > largest ? one : largest;
  return largest;
}

HWY_INLINE V64 Exponential(V64 x) {
  // Highway's gives 0 for NaN.
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(D64(), x));
}

Exponentials SumExponentials(const float* x, std::int64_t count) {
  const hn::Rebind<float, D64> narrow;
  const float top = Largest(x, count);
  Sums sums;
  ForSums(x, count, [&](const float* at) HWY_ATTR {
    for (std::int64_t v = 0; v < kVectors; ++v) {
      const auto away = hn::Sub(hn::LoadU(narrow, at + v * kLanes64), hn::Set(narrow, top));
      sums.of[v] = hn::Add(sums.of[v], Exponential(hn::PromoteTo(D64(), away)));
    }
  });
  return {static_cast<double>(top), sums.Total()};
}

Exponentials TakeExponentials(double* x, std::int64_t count) {
  const double top = Largest<double>(x, count);
  Sums sums;
  ForSums(x, count, [&](double* at) HWY_ATTR {
    for (std::int64_t v = 0; v < kVectors; ++v) {
      const auto e = Exponential(hn::Sub(hn::LoadU(D64(), at + v * kLanes64), hn::Set(D64(), top)));
      hn::StoreU(e, D64(), at + v * kLanes64);
      sums.of[v] = hn::Add(sums.of[v], e);
    }
  });
  return {top, sums.Total()};
}

std::int64_t FindLargest(const float* x, std::int64_t count) {
  const float top = Largest(x, count);
  if (top == -std::numeric_limits<float>::infinity()) return -1;
  return static_cast<std::int64_t>(
      hn::Find(hn::ScalableTag<float>(), top, x, static_cast<std::size_t>(count)));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {

HWY_EXPORT(SumExponentials);
HWY_EXPORT(TakeExponentials);
HWY_EXPORT(FindLargest);

Exponentials sum_exponentials(const float* x, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(SumExponentials)(x, count);
}
Exponentials take_exponentials(double* x, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(TakeExponentials)(x, count);
}
std::int64_t find_largest(const float* x, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(FindLargest)(x, count);
}

}  // namespace rwkvx
#endif
