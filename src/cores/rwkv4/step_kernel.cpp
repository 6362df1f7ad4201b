#include "cores/rwkv4/step_kernel.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cores/rwkv4/step_kernel.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "rwkvx/kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
void WkvRowsOf(const WkvRows& call, std::int64_t first, std::int64_t last) {
  const std::int64_t A = call.channels;
  ForEach(first, last, [&](auto d, std::int64_t c) {
    using V = hn::VFromD<decltype(d)>;
    const V w = hn::LoadU(d, call.w + c), u = hn::LoadU(d, call.u + c);
    V p = hn::LoadU(d, call.state + c), q = hn::LoadU(d, call.state + A + c),
      o = hn::LoadU(d, call.state + 2 * A + c);
    for (std::int64_t t = 0; t < call.tokens; ++t) {
      const std::int64_t at = t * A + c;
      const V k = hn::LoadU(d, call.k + at), v = hn::LoadU(d, call.v + at);
      const V bonus = hn::Add(u, k), high = hn::Max(o, bonus);
      const V past = ExpBelow(d, hn::Sub(o, high)), now = ExpBelow(d, hn::Sub(bonus, high));
      const V wkv = hn::Div(hn::MulAdd(past, p, hn::Mul(now, v)), hn::MulAdd(past, q, now));
      hn::StoreU(hn::Mul(Sigmoid(d, hn::LoadU(d, call.r + at)), wkv), d, call.y + at);
      const V decayed = hn::Add(o, w), next = hn::Max(decayed, k);
      const V keep = ExpBelow(d, hn::Sub(decayed, next)), add = ExpBelow(d, hn::Sub(k, next));
      p = hn::MulAdd(keep, p, hn::Mul(add, v));
      q = hn::MulAdd(keep, q, add);
      o = next;
    }
    hn::StoreU(p, d, call.state + c);
    hn::StoreU(q, d, call.state + A + c);
    hn::StoreU(o, d, call.state + 2 * A + c);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {

HWY_EXPORT(WkvRowsOf);

void wkv_rows(const WkvRows& call, std::int64_t first, std::int64_t last) {
  HWY_DYNAMIC_DISPATCH(WkvRowsOf)(call, first, last);
}

}  // namespace rwkvx
#endif
