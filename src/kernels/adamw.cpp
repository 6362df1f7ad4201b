#include "rwkvx/kernels/adamw.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/adamw.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE void UpdateAt(D d, const AdamwStep& s, std::int64_t i) {
  const auto set = [&](float value) { return hn::Set(d, value); };
  const auto g = hn::Mul(hn::LoadU(d, s.grad + i), set(s.grad_scale));
  const auto m = hn::MulAdd(set(s.beta1), hn::LoadU(d, s.m + i), hn::Mul(set(1 - s.beta1), g));
  const auto v =
      hn::MulAdd(set(s.beta2), hn::LoadU(d, s.v + i), hn::Mul(hn::Mul(set(1 - s.beta2), g), g));
  hn::StoreU(m, d, s.m + i);
  hn::StoreU(v, d, s.v + i);
  const auto spread = hn::Mul(v, set(s.v_scale));
  const auto away = hn::Div(hn::Mul(m, set(s.m_scale)), hn::Add(hn::Sqrt(spread), set(s.epsilon)));
  const auto x = hn::LoadU(d, s.x + i);
  // Divided by infinity every step would be 0 from here on: 0 * infinity is NaN, which is noticed.
  const auto kept = hn::MulAdd(x, set(1 - s.rate * s.decay), hn::Mul(spread, hn::Zero(d)));
  hn::StoreU(hn::NegMulAdd(set(s.rate), away, kept), d, s.x + i);
  hn::StoreU(hn::Zero(d), d, s.grad + i);
}

void Step(const AdamwStep& s) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= s.count; i += lanes) UpdateAt(d, s, i);
  for (; i < s.count; ++i) UpdateAt(hn::CappedTag<float, 1>(), s, i);
}

double Squares(const float* x, std::int64_t count) {
  constexpr std::int64_t kBlock = 4096;
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> narrow;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto load = [&](std::int64_t i) { return hn::PromoteTo(d, hn::LoadU(narrow, x + i)); };
  double sum = 0;
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t end = begin + kBlock < count ? begin + kBlock : count;
    auto a = hn::Zero(d), b = hn::Zero(d);
    std::int64_t i = begin;
    for (; i + 2 * lanes <= end; i += 2 * lanes) {
      const auto x0 = load(i), x1 = load(i + lanes);
      a = hn::MulAdd(x0, x0, a);
      b = hn::MulAdd(x1, x1, b);
    }
    sum += hn::GetLane(hn::SumOfLanes(d, hn::Add(a, b)));
    for (; i < end; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  return sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {

HWY_EXPORT(Step);
HWY_EXPORT(Squares);

void adamw_step(const AdamwStep& step) { HWY_DYNAMIC_DISPATCH(Step)(step); }
double sum_of_squares(const float* x, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(Squares)(x, count);
}

}  // namespace rwkvx
#endif
