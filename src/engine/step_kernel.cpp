#include "engine/step_kernel.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/step_kernel.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "rwkvx/ops/simd_math-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
Moments RowMoments(const float* x, std::int64_t channels) {
  const auto found = MomentsOf(x, channels);
  return {found.mean, found.scale};
}

// (x - mean) scale weight + bias at one vector of channels.
template <class D>
HWY_INLINE hn::VFromD<D> Normal(D d, const float* x, const Moments& moments, hn::VFromD<D> weight,
                                hn::VFromD<D> bias) {
  const auto away = hn::Sub(hn::LoadU(d, x), hn::Set(d, moments.mean));
  return hn::MulAdd(hn::Mul(away, hn::Set(d, moments.scale)), weight, bias);
}

void Normalise(const float* x, Moments moments, const float* weight, const float* bias,
               std::int64_t first, std::int64_t last, float* y) {
  ForEach(first, last, [&](auto d, std::int64_t c) {
    hn::StoreU(Normal(d, x + c, moments, hn::LoadU(d, weight + c), hn::LoadU(d, bias + c)), d,
               y + c);
  });
}

void ShiftMixRowsOf(const ShiftMixWeights& site, const ShiftMixRows& rows, std::int64_t first,
                    std::int64_t last) {
  const std::int64_t C = site.channels, K = site.taps, H = K > 1 ? K - 1 : 1;
  ForEach(first, last, [&](auto d, std::int64_t c) {
    using V = hn::VFromD<decltype(d)>;
    const V weight = hn::LoadU(d, site.norm_weight + c), bias = hn::LoadU(d, site.norm_bias + c);
    V before = hn::LoadU(d, rows.prev + c);
    std::int64_t newest = rows.t % H;  // the ring's row of this token, which holds the oldest
    for (std::int64_t t = 0; t < rows.tokens; ++t) {
      const V a = Normal(d, rows.x + t * C + c, rows.moments[t], weight, bias);
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
          row = row == 0 ? H - 1 : row - 1;
          s = hn::MulAdd(tap(j), hn::LoadU(d, rows.ring + row * C + c), s);
        }
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
      const V step = hn::Sub(b, before);
      for (int i = 0; i < site.mixes; ++i)
        hn::StoreU(hn::MulAdd(step, hn::LoadU(d, site.mix[i] + c), before), d,
                   rows.z[i] + t * C + c);
      before = b;
    }
    hn::StoreU(before, d, rows.prev + c);
  });
}

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

void ReluSquare(float* x, std::int64_t first, std::int64_t last) {
  ForEach(first, last, [&](auto d, std::int64_t c) {
    const auto positive = Relu(d, hn::LoadU(d, x + c));
    hn::StoreU(hn::Mul(positive, positive), d, x + c);
  });
}

void AddRows(float* x, const float* y, std::int64_t first, std::int64_t last) {
  ForEach(first, last, [&](auto d, std::int64_t c) {
    hn::StoreU(hn::Add(hn::LoadU(d, x + c), hn::LoadU(d, y + c)), d, x + c);
  });
}

void AddGated(float* x, const float* r, const float* y, std::int64_t first, std::int64_t last) {
  ForEach(first, last, [&](auto d, std::int64_t c) {
    const auto gate = Sigmoid(d, hn::LoadU(d, r + c));
    hn::StoreU(hn::MulAdd(gate, hn::LoadU(d, y + c), hn::LoadU(d, x + c)), d, x + c);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {

HWY_EXPORT(RowMoments);
HWY_EXPORT(Normalise);
HWY_EXPORT(ShiftMixRowsOf);
HWY_EXPORT(WkvRowsOf);
HWY_EXPORT(ReluSquare);
HWY_EXPORT(AddRows);
HWY_EXPORT(AddGated);

Moments row_moments(const float* x, std::int64_t channels) {
  return HWY_DYNAMIC_DISPATCH(RowMoments)(x, channels);
}
void normalise(const float* x, Moments moments, const float* weight, const float* bias,
               std::int64_t first, std::int64_t last, float* y) {
  HWY_DYNAMIC_DISPATCH(Normalise)(x, moments, weight, bias, first, last, y);
}
void shift_mix_rows(const ShiftMixWeights& site, const ShiftMixRows& rows, std::int64_t first,
                    std::int64_t last) {
  HWY_DYNAMIC_DISPATCH(ShiftMixRowsOf)(site, rows, first, last);
}
void wkv_rows(const WkvRows& call, std::int64_t first, std::int64_t last) {
  HWY_DYNAMIC_DISPATCH(WkvRowsOf)(call, first, last);
}
void relu_square(float* x, std::int64_t first, std::int64_t last) {
  HWY_DYNAMIC_DISPATCH(ReluSquare)(x, first, last);
}
void add_rows(float* x, const float* y, std::int64_t first, std::int64_t last) {
  HWY_DYNAMIC_DISPATCH(AddRows)(x, y, first, last);
}
void add_gated(float* x, const float* r, const float* y, std::int64_t first, std::int64_t last) {
  HWY_DYNAMIC_DISPATCH(AddGated)(x, r, y, first, last);
}

}  // namespace rwkvx
#endif
