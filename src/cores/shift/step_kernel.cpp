#include "cores/shift/step_kernel.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cores/shift/step_kernel.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "rwkvx/kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
void ShiftMixRowsOf(const ShiftMixWeights& site, const ShiftMixRows& rows, std::int64_t first,
                    std::int64_t last) {
  const std::int64_t C = site.channels, K = site.taps, D = site.dilation,
                     H = K > 1 ? (K - 1) * D : 1;
  ForEach(first, last, [&](auto d, std::int64_t c) {
    using V = hn::VFromD<decltype(d)>;
    const V weight = hn::LoadU(d, site.norm_weight + c), bias = hn::LoadU(d, site.norm_bias + c);
    V before = hn::LoadU(d, rows.prev + c);
    std::int64_t newest = rows.t % H;  // the ring's row of this token, which holds the oldest
    for (std::int64_t t = 0; t < rows.tokens; ++t) {
      const V a = NormalOf(d, rows.x + t * C + c,
                           MeanScale{rows.moments[t].mean, rows.moments[t].scale}, weight, bias);
      V b = a;
      if (K > 0) {
        const float* m = rows.m == nullptr ? nullptr : rows.m + t * K;
        const auto tap = [&](std::int64_t j) {
          const V conv = hn::LoadU(d, site.conv + j * C + c);
          return m == nullptr ? conv : hn::Mul(conv, hn::Set(d, m[j]));
        };
        V s = hn::Mul(tap(0), a);
        std::int64_t row = newest;
        for (std::int64_t j = 1; j < K; ++j) {
          row = row < D ? row + H - D : row - D;
          s = hn::MulAdd(tap(j), hn::LoadU(d, rows.ring + row * C + c), s);
        }
        if (site.silu) s = hn::Mul(s, Sigmoid(d, s));
        if (site.gate_b != nullptr) {
          const V z = hn::MulAdd(
              hn::LoadU(d, site.gate_x + c), a,
              hn::MulAdd(hn::LoadU(d, site.gate_s + c), s, hn::LoadU(d, site.gate_b + c)));
          b = hn::MulAdd(Sigmoid(d, z), s, a);
        } else if (rows.gate != nullptr) {
          b = hn::MulAdd(hn::LoadU(d, rows.gate + t * C + c), s, a);
        } else {
          b = hn::Add(a, s);
        }
        if (K > 1) hn::StoreU(a, d, rows.ring + newest * C + c);
        newest = newest + 1 == H ? 0 : newest + 1;
      }
      const V from = site.mix_before ? b : before, to = site.mix_before ? before : b;
      const V step = hn::Sub(to, from);
      for (int i = 0; i < site.mixes; ++i)
        hn::StoreU(hn::MulAdd(step, hn::LoadU(d, site.mix[i] + c), from), d, rows.z[i] + t * C + c);
      before = b;
    }
    hn::StoreU(before, d, rows.prev + c);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {

HWY_EXPORT(ShiftMixRowsOf);

void shift_mix_rows(const ShiftMixWeights& site, const ShiftMixRows& rows, std::int64_t first,
                    std::int64_t last) {
  HWY_DYNAMIC_DISPATCH(ShiftMixRowsOf)(site, rows, first, last);
}

}  // namespace rwkvx
#endif
