#include "rwkvx/ops/wkv_kernel.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/wkv_kernel.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Above this the scale n is raised before the exponential is taken; below kLowest it is lowered.
constexpr double kLargestArgument = 8;
constexpr double kLowestDenominator = 9.5367431640625e-07;  // 2^-20

template <class Real>
struct Ln2;
template <>
struct Ln2<float> {
  static constexpr float kHigh = 0.693145751953125f, kLow = 1.42860682030941723212e-6f;
  static constexpr float kInverse = 1.44269504088896340736f;
};
template <>
struct Ln2<double> {
  static constexpr double kHigh = 6.93147180369123816490e-01, kLow = 1.90821492927058770002e-10;
  static constexpr double kInverse = 1.44269504088896340736;
};

// 2^n for whole n; 0 below the range of normal numbers, capped above it.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V Power2(D d, V n) {
  using Real = hn::TFromD<D>;
  constexpr int kBias = sizeof(Real) == 4 ? 127 : 1023, kShift = sizeof(Real) == 4 ? 23 : 52;
  const hn::RebindToSigned<D> di;
  const auto tiny = hn::Lt(n, hn::Set(d, Real(1 - kBias)));
  const V bounded = hn::Min(hn::Max(n, hn::Set(d, Real(1 - kBias))), hn::Set(d, Real(kBias)));
  const auto bits = hn::ShiftLeft<kShift>(hn::Add(hn::ConvertTo(di, bounded), hn::Set(di, kBias)));
  return hn::IfThenZeroElse(tiny, hn::BitCast(d, bits));
}

// The exponent of a normal x > 0, as a number: floor(log2 x).
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V Exponent2(D d, V x) {
  using Real = hn::TFromD<D>;
  constexpr int kBias = sizeof(Real) == 4 ? 127 : 1023, kShift = sizeof(Real) == 4 ? 23 : 52;
  const hn::RebindToSigned<D> di;
  const auto bits = hn::ShiftRight<kShift>(hn::BitCast(di, x));
  return hn::ConvertTo(d, hn::Sub(bits, hn::Set(di, kBias)));
}

// x - n ln 2 with the product in extended precision.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V Reduced(D d, V x, V n) {
  using L = Ln2<hn::TFromD<D>>;
  return hn::NegMulAdd(n, hn::Set(d, L::kLow), hn::NegMulAdd(n, hn::Set(d, L::kHigh), x));
}

template <class D, class V = hn::VFromD<D>>
HWY_INLINE V Sigmoid(D d, V x) {
  const V one = hn::Set(d, hn::TFromD<D>(1));
  return hn::Div(one, hn::Add(one, hn::Exp(d, hn::Neg(x))));
}

// e^w of one vector of channels as the sum of two numbers: a slow decay is used hundreds of times
// over, and what one float32 rounds off it would show in the gradients.
template <class D>
struct Decay {
  hn::VFromD<D> high, low;
};

template <class D, class Real = hn::TFromD<D>>
HWY_INLINE Decay<D> LoadDecay(D d, const Real* w) {
  constexpr std::size_t kLanes = hn::MaxLanes(D());
  HWY_ALIGN Real high[kLanes], low[kLanes];
  for (std::size_t lane = 0; lane < hn::Lanes(d); ++lane) {
    const double decay = std::exp(static_cast<double>(w[lane]));
    high[lane] = static_cast<Real>(decay);
    low[lane] = static_cast<Real>(decay - static_cast<double>(high[lane]));
  }
  return {hn::Load(d, high), hn::Load(d, low)};
}

// decay x + y.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V Decayed(const Decay<D>& decay, V x, V y) {
  if constexpr (sizeof(hn::TFromD<D>) == 4) y = hn::MulAdd(decay.low, x, y);
  return hn::MulAdd(decay.high, x, y);
}

// p and q at scale 2^n, of one vector of channels.
template <class D>
struct Scaled {
  hn::VFromD<D> p, q, n;
};

// From rows p, q, o at scale e^o, normalised so that q lies in [1, 2). An empty state takes the
// scale of the first key, so that nothing underflows before the first sum.
template <class D, class Real = hn::TFromD<D>>
HWY_INLINE Scaled<D> Enter(D d, const Real* state, std::int64_t channels, std::int64_t c,
                           const Real* first_key) {
  using V = hn::VFromD<D>;
  const V p = hn::LoadU(d, state + c), q = hn::LoadU(d, state + channels + c);
  const V o = hn::LoadU(d, state + 2 * channels + c), inverse = hn::Set(d, Ln2<Real>::kInverse);
  const V zero = hn::Zero(d), lowest = hn::Set(d, Real(1e-30));
  const auto empty = hn::Lt(q, lowest);
  const V start = hn::Round(hn::Mul(hn::LoadU(d, first_key + c), inverse));
  const V whole = hn::Round(hn::Mul(hn::IfThenElse(empty, zero, o), inverse));
  const V rest = hn::Exp(d, Reduced(d, hn::IfThenElse(empty, zero, o), whole));
  const V exponent = Exponent2(d, hn::IfThenElse(empty, hn::Set(d, Real(1)), q));
  const V factor = hn::Mul(rest, Power2(d, hn::Neg(exponent)));
  return {hn::IfThenElse(empty, zero, hn::Mul(p, factor)),
          hn::IfThenElse(empty, zero, hn::Mul(q, factor)),
          hn::IfThenElse(empty, start, hn::Add(whole, exponent))};
}

// To rows p, q, o. o is n ln 2 rounded; what rounding lost goes into p and q.
template <class D, class Real = hn::TFromD<D>>
HWY_INLINE void Leave(D d, const Scaled<D>& state, Real* rows, std::int64_t channels,
                      std::int64_t c) {
  using V = hn::VFromD<D>;
  const V o = hn::Mul(state.n, hn::Set(d, Real(0.69314718055994530942)));
  const V factor = hn::Exp(d, hn::Neg(Reduced(d, o, state.n)));
  const auto empty = hn::Eq(state.q, hn::Zero(d));
  hn::StoreU(hn::Mul(state.p, factor), d, rows + c);
  hn::StoreU(hn::Mul(state.q, factor), d, rows + channels + c);
  hn::StoreU(hn::IfThenElse(empty, hn::Set(d, Real(-1e30)), o), d, rows + 2 * channels + c);
}

// The exponential of key k at the state's scale, which is raised first where k is far above it.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V Arrive(D d, V k, Scaled<D>& state) {
  using Real = hn::TFromD<D>;
  V x = Reduced(d, k, state.n);
  const auto large = hn::Gt(x, hn::Set(d, Real(kLargestArgument)));
  if (HWY_UNLIKELY(!hn::AllFalse(d, large))) {
    const V raised = hn::Round(hn::Mul(k, hn::Set(d, Ln2<Real>::kInverse)));
    const V n = hn::IfThenElse(large, raised, state.n);
    const V factor = Power2(d, hn::Sub(state.n, n));
    state = {hn::Mul(state.p, factor), hn::Mul(state.q, factor), n};
    x = Reduced(d, k, n);
  }
  return hn::Exp(d, x);
}

// Decays the state by one step and adds the current token, whose exponential is e.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE void Advance(D d, const Decay<D>& decay, V e, V v, Scaled<D>& state) {
  using Real = hn::TFromD<D>;
  state.p = Decayed(decay, state.p, hn::Mul(e, v));
  state.q = Decayed(decay, state.q, e);
  const auto small = hn::Lt(state.q, hn::Set(d, Real(kLowestDenominator)));
  if (HWY_UNLIKELY(!hn::AllFalse(d, small))) {
    const V exponent = hn::IfThenElseZero(small, Exponent2(d, state.q));
    const V factor = Power2(d, hn::Neg(exponent));
    state = {hn::Mul(state.p, factor), hn::Mul(state.q, factor), hn::Add(state.n, exponent)};
  }
}

template <class D, class Real = hn::TFromD<D>>
void ForwardChannels(D d, const WkvForward<Real>& call, std::int64_t c) {
  using V = hn::VFromD<D>;
  const Decay<D> decay = LoadDecay(d, call.w + c);
  const V bonus = hn::Exp(d, hn::LoadU(d, call.u + c));
  Scaled<D> state = Enter(d, call.state_in, call.channels, c, call.k);
  for (std::int64_t t = 0; t < call.steps; ++t) {
    if (call.kept != nullptr && t % kWkvSegment == 0) {
      Real* rows = call.kept + t / kWkvSegment * 3 * call.channels;
      hn::StoreU(state.p, d, rows + c);
      hn::StoreU(state.q, d, rows + call.channels + c);
      hn::StoreU(state.n, d, rows + 2 * call.channels + c);
    }
    const std::int64_t i = t * call.stride + c;
    const V v = hn::LoadU(d, call.v + i);
    const V e = Arrive(d, hn::LoadU(d, call.k + i), state);
    const V own = hn::Mul(bonus, e);
    V denominator = hn::Add(state.q, own);
    const V numerator = hn::MulAdd(own, v, state.p);
    if (call.r != nullptr) {  // sigmoid(r) N / Q = N / (Q (1 + e^-r))
      const V r = hn::Max(hn::LoadU(d, call.r + i), hn::Set(d, Real(-60)));
      denominator = hn::MulAdd(denominator, hn::Exp(d, hn::Neg(r)), denominator);
    }
    hn::StoreU(hn::Div(numerator, denominator), d, call.y + i);
    Advance(d, decay, e, v, state);
  }
  if (call.state_out != nullptr) Leave(d, state, call.state_out, call.channels, c);
}

template <class D, class Real = hn::TFromD<D>>
void BackwardChannels(D d, const WkvBackward<Real>& call, std::int64_t c) {
  using V = hn::VFromD<D>;
  constexpr std::size_t kLanes = hn::MaxLanes(D());
  HWY_ALIGN Real p[kWkvSegment * kLanes], q[kWkvSegment * kLanes], n[kWkvSegment * kLanes],
      e[kWkvSegment * kLanes];
  const std::size_t lanes = hn::Lanes(d);
  const Decay<D> decay = LoadDecay(d, call.w + c);
  const V bonus = hn::Exp(d, hn::LoadU(d, call.u + c));
  double sum_w[kLanes] = {}, sum_u[kLanes] = {};

  // The adjoint of the state after the last step, at scale 2^-scale.
  const std::int64_t stride = call.channels;
  V gp = hn::Zero(d), gq = hn::Zero(d), scale = hn::Zero(d);
  if (call.grad_state_out != nullptr) {
    // GP = gp e^-o; the rows' o has a fraction beside its whole power of two.
    const V o = hn::LoadU(d, call.state_out + 2 * stride + c);
    const auto empty = hn::Lt(o, hn::Set(d, Real(-1e29)));
    const V kept_o = hn::IfThenZeroElse(empty, o);
    scale = hn::Round(hn::Mul(kept_o, hn::Set(d, Ln2<Real>::kInverse)));
    const V factor = hn::Exp(d, hn::Neg(Reduced(d, kept_o, scale)));
    gp = hn::IfThenZeroElse(empty, hn::Mul(factor, hn::LoadU(d, call.grad_state_out + c)));
    gq = hn::IfThenZeroElse(empty, hn::Mul(factor, hn::LoadU(d, call.grad_state_out + stride + c)));
  }

  for (std::int64_t segment = wkv_segments(call.steps) - 1; segment >= 0; --segment) {
    const std::int64_t begin = segment * kWkvSegment;
    const std::int64_t end = std::min(begin + kWkvSegment, call.steps);
    const Real* rows = call.kept + segment * 3 * stride;
    Scaled<D> state{hn::LoadU(d, rows + c), hn::LoadU(d, rows + stride + c),
                    hn::LoadU(d, rows + 2 * stride + c)};
    for (std::int64_t t = begin; t < end; ++t) {  // the states before each step, once more
      const std::int64_t i = t * call.stride + c;
      const std::size_t at = static_cast<std::size_t>(t - begin) * lanes;
      const V now = Arrive(d, hn::LoadU(d, call.k + i), state);
      hn::Store(state.p, d, p + at);
      hn::Store(state.q, d, q + at);
      hn::Store(state.n, d, n + at);
      hn::Store(now, d, e + at);
      Advance(d, decay, now, hn::LoadU(d, call.v + i), state);
    }
    V segment_w = hn::Zero(d), segment_u = hn::Zero(d);
    for (std::int64_t t = end - 1; t >= begin; --t) {
      const std::int64_t i = t * call.stride + c;
      const std::size_t at = static_cast<std::size_t>(t - begin) * lanes;
      const V p_t = hn::Load(d, p + at), q_t = hn::Load(d, q + at), e_t = hn::Load(d, e + at);
      const V n_t = hn::Load(d, n + at);
      const V shift = hn::Sub(n_t, scale);
      if (HWY_UNLIKELY(!hn::AllTrue(d, hn::Eq(shift, hn::Zero(d))))) {
        const V factor = Power2(d, shift);
        gp = hn::Mul(gp, factor);
        gq = hn::Mul(gq, factor);
      }
      scale = n_t;
      const V v = hn::LoadU(d, call.v + i);
      const V own = hn::Mul(bonus, e_t);
      const V inverse = hn::Div(hn::Set(d, Real(1)), hn::Add(q_t, own));
      const V y = hn::Mul(hn::MulAdd(own, v, p_t), inverse);
      V gy = hn::LoadU(d, call.grad_y + i);
      if (call.r != nullptr) {
        const V open = Sigmoid(d, hn::LoadU(d, call.r + i));
        const V through = hn::Mul(gy, open);
        const V gr = hn::Mul(hn::Mul(through, y), hn::Sub(hn::Set(d, Real(1)), open));
        hn::StoreU(gr, d, call.grad_r + i);
        gy = through;
      }
      const V part = hn::Mul(gy, inverse);  // gy / D at scale 2^-n
      const V direct = hn::Mul(part, own);
      const V away = hn::Mul(direct, hn::Sub(v, y));
      hn::StoreU(hn::MulAdd(e_t, gp, direct), d, call.grad_v + i);
      hn::StoreU(hn::MulAdd(e_t, hn::MulAdd(v, gp, gq), away), d, call.grad_k + i);
      segment_u = hn::Add(segment_u, away);
      segment_w = hn::Add(segment_w, hn::MulAdd(gp, p_t, hn::Mul(gq, q_t)));
      gp = Decayed(decay, gp, part);
      gq = Decayed(decay, gq, hn::Neg(hn::Mul(part, y)));
    }
    HWY_ALIGN Real lane_w[kLanes], lane_u[kLanes];
    hn::Store(hn::Mul(segment_w, decay.high), d, lane_w);
    hn::Store(segment_u, d, lane_u);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      sum_w[lane] += static_cast<double>(lane_w[lane]);
      sum_u[lane] += static_cast<double>(lane_u[lane]);
    }
  }
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    call.grad_w[c + static_cast<std::int64_t>(lane)] = sum_w[lane];
    call.grad_u[c + static_cast<std::int64_t>(lane)] = sum_u[lane];
  }
  if (call.grad_state_in != nullptr) {
    // p = P e^-o: the gradient of p is GP e^o, that of q likewise, and o moves both.
    const V p_in = hn::LoadU(d, call.state_in + c), q_in = hn::LoadU(d, call.state_in + stride + c);
    const V o = hn::LoadU(d, call.state_in + 2 * stride + c);
    const auto empty = hn::Lt(o, hn::Set(d, Real(-1e29)));
    const V factor =
        hn::IfThenZeroElse(empty, hn::Exp(d, Reduced(d, hn::IfThenZeroElse(empty, o), scale)));
    const V grad_p = hn::Mul(gp, factor), grad_q = hn::Mul(gq, factor);
    hn::StoreU(grad_p, d, call.grad_state_in + c);
    hn::StoreU(grad_q, d, call.grad_state_in + stride + c);
    hn::StoreU(hn::MulAdd(grad_p, p_in, hn::Mul(grad_q, q_in)), d,
               call.grad_state_in + 2 * stride + c);
  }
}

// Whole vectors of channels, then the rest one by one.
template <class Real, class Whole, class Single>
HWY_INLINE void ForEachVector(std::int64_t first, std::int64_t last, const Whole& whole,
                              const Single& single) {
  const hn::ScalableTag<Real> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t c = first;
  for (; c + lanes <= last; c += lanes) whole(d, c);
  for (; c < last; ++c) single(hn::CappedTag<Real, 1>(), c);
}

template <class Real>
void ForwardAll(const WkvForward<Real>& call) {
  const auto one = [&](auto d, std::int64_t c) { ForwardChannels(d, call, c); };
  ForEachVector<Real>(call.first, call.last, one, one);
}
template <class Real>
void BackwardAll(const WkvBackward<Real>& call) {
  const auto one = [&](auto d, std::int64_t c) { BackwardChannels(d, call, c); };
  ForEachVector<Real>(call.first, call.last, one, one);
}

void Forward32(const WkvForward<float>& call) { ForwardAll(call); }
void Forward64(const WkvForward<double>& call) { ForwardAll(call); }
void Backward32(const WkvBackward<float>& call) { BackwardAll(call); }
void Backward64(const WkvBackward<double>& call) { BackwardAll(call); }

}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {

HWY_EXPORT(Forward32);
HWY_EXPORT(Forward64);
HWY_EXPORT(Backward32);
HWY_EXPORT(Backward64);

void wkv_forward(const WkvForward<float>& call) { HWY_DYNAMIC_DISPATCH(Forward32)(call); }
void wkv_forward(const WkvForward<double>& call) { HWY_DYNAMIC_DISPATCH(Forward64)(call); }
void wkv_backward(const WkvBackward<float>& call) { HWY_DYNAMIC_DISPATCH(Backward32)(call); }
void wkv_backward(const WkvBackward<double>& call) { HWY_DYNAMIC_DISPATCH(Backward64)(call); }

}  // namespace rwkvx
#endif
