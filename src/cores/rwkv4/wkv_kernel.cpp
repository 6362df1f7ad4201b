#include "cores/rwkv4/wkv_kernel.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cores/rwkv4/wkv_kernel.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "rwkvx/kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
// A step keeps its state's scale where the key's exponent is at most kLargestArgument and the
// denominator that it leaves is at least kLowestDenominator.
constexpr double kLargestArgument = 8;
constexpr double kLowestDenominator = 9.5367431640625e-07;  // 2^-20
// Bonuses up to this are a factor; beyond it every step takes its exponent with the key's.
constexpr double kLargestBonus = 20;

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

// The same where n is x / ln 2 but for rounding: of a huge x, whose n is no whole number of powers
// any more, the rest is lost.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V Rest(D d, V x, V n) {
  return AtLeast(d, AtMost(d, Reduced(d, x, n), 1), -1);
}

// Whether a key may set a scale: not infinite, not NaN, and x / ln 2 does not overflow.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE auto IsModerate(D d, V key) {
  const double limit = sizeof(hn::TFromD<D>) == 4 ? 2e38 : 1e308;
  return hn::Lt(hn::Abs(key), hn::Set(d, static_cast<hn::TFromD<D>>(limit)));
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

// From rows p, q, o at scale e^o, normalized so that q lies in [1, 2): p and q are multiplied with
// `factor`. An empty state takes the scale of the first key, so that nothing underflows before the
// first sum; its factor is 0.
template <class D>
struct Entry {
  hn::VFromD<D> factor, n;
};
template <class D, class Real = hn::TFromD<D>>
HWY_INLINE Entry<D> FindEntry(D d, const Real* state, std::int64_t channels, std::int64_t c,
                              const Real* first_key) {
  using V = hn::VFromD<D>;
  const V q = hn::LoadU(d, state + channels + c), inverse = hn::Set(d, Ln2<Real>::kInverse);
  const auto empty = hn::Lt(q, hn::Set(d, Real(1e-30)));
  const V o = hn::IfThenZeroElse(empty, hn::LoadU(d, state + 2 * channels + c));
  const V key = hn::LoadU(d, first_key + c);
  const V start = hn::IfThenElseZero(IsModerate(d, key), hn::Round(hn::Mul(key, inverse)));
  const V whole = hn::Round(hn::Mul(o, inverse));
  const V exponent = Exponent2(d, hn::IfThenElse(empty, hn::Set(d, Real(1)), q));
  const V factor = hn::Mul(ExpBelow(d, Rest(d, o, whole)), Power2(d, hn::Neg(exponent)));
  return {hn::IfThenZeroElse(empty, factor),
          hn::IfThenElse(empty, start, hn::Add(whole, exponent))};
}
template <class D, class Real = hn::TFromD<D>>
HWY_INLINE Scaled<D> Enter(D d, const Real* state, std::int64_t channels, std::int64_t c,
                           const Real* first_key) {
  const auto entry = FindEntry(d, state, channels, c, first_key);
  return {hn::Mul(hn::LoadU(d, state + c), entry.factor),
          hn::Mul(hn::LoadU(d, state + channels + c), entry.factor), entry.n};
}

// To rows p, q, o. o is n ln 2 rounded; what rounding lost goes into p and q.
template <class D, class Real = hn::TFromD<D>>
HWY_INLINE void Leave(D d, const Scaled<D>& state, Real* rows, std::int64_t channels,
                      std::int64_t c) {
  using V = hn::VFromD<D>;
  const V o = hn::Mul(state.n, hn::Set(d, Real(0.69314718055994530942)));
  const V factor = ExpBelow(d, hn::Neg(Rest(d, o, state.n)));
  const auto empty = hn::Eq(state.q, hn::Zero(d));
  hn::StoreU(hn::Mul(state.p, factor), d, rows + c);
  hn::StoreU(hn::Mul(state.q, factor), d, rows + channels + c);
  hn::StoreU(hn::IfThenElse(empty, hn::Set(d, Real(-1e30)), o), d, rows + 2 * channels + c);
}

// What a step does: y = (p fade + own v) / (q fade + own), then p <- keep p + add v, q <- keep q +
// add at scale 2^n.
template <class D>
struct WkvStep {
  hn::VFromD<D> own, fade, add, n;
  Decay<D> keep;
};

// A step of any key, decay and bonus, from the state before it: the scale that it leaves follows
// the larger of the decayed past and the key, so that neither overflows and both vanish only beside
// something larger. Where `stay` is true the scale does not change.
template <class D, class V, class M>
HWY_NOINLINE WkvStep<D> CarefulStep(D d, V w, V u, const Decay<D>& decay, V k,
                                    const Scaled<D>& state, M stay) {
  using Real = hn::TFromD<D>;
  const V zero = hn::Zero(d), inverse_ln2 = hn::Set(d, Ln2<Real>::kInverse);
  const V ln2 = hn::Set(d, Real(0.69314718055994530942));
  const V lowest = hn::Set(d, std::numeric_limits<Real>::lowest());
  const V nothing = hn::Set(d, -std::numeric_limits<Real>::infinity());
  const auto empty = hn::Eq(state.q, zero);
  // The scale of an empty state is free.
  const V n =
      hn::IfThenElse(hn::And(empty, IsModerate(d, k)), hn::Round(hn::Mul(k, inverse_ln2)), state.n);
  const V x = Reduced(d, k, n), wide = hn::Add(u, x);
  const V down = hn::IfThenElse(empty, wide, hn::Max(wide, zero));
  WkvStep<D> step;
  step.own = ExpBelow(d, hn::Sub(wide, down));
  step.fade = hn::IfThenZeroElse(empty, ExpBelow(d, hn::Neg(down)));

  const V exponent = Exponent2(d, hn::IfThenElse(empty, hn::Set(d, Real(1)), state.q));
  const V past = hn::IfThenElse(empty, nothing, hn::MulAdd(w, inverse_ln2, exponent));
  const V now = hn::Mul(x, inverse_ln2), lead = hn::Max(past, now);
  const auto same = hn::AndNot(empty, stay);
  const V change =
      hn::IfThenZeroElse(same, hn::IfThenElseZero(hn::Ge(lead, lowest), hn::Round(lead)));
  step.n = hn::Add(n, change);
  // What leads becomes about 1. Of a huge exponent the rest is rounding, and must not change that.
  const auto finite = hn::AndNot(same, hn::Ge(lead, lowest));
  const auto key_leads = hn::And(finite, hn::Ge(now, past));
  const auto past_leads = hn::And(finite, hn::Ge(past, now));
  V rest = AtMost(d, Reduced(d, k, step.n), kLargestArgument);
  step.add = ExpBelow(d, hn::IfThenElse(key_leads, AtLeast(d, rest, -1), rest));
  rest = AtMost(d, hn::MulAdd(exponent, ln2, Reduced(d, w, change)), 1);
  rest = hn::IfThenElse(past_leads, AtLeast(d, rest, -1), rest);
  const V far = ExpBelow(d, hn::NegMulAdd(exponent, ln2, rest));
  const V factor = Power2(d, hn::Neg(change));
  const auto slow = hn::Gt(w, hn::Set(d, Real(-40)));  // e^w has all its bits
  step.keep.high =
      hn::IfThenZeroElse(empty, hn::IfThenElse(slow, hn::Mul(decay.high, factor), far));
  step.keep.low = hn::IfThenElseZero(slow, hn::IfThenZeroElse(empty, hn::Mul(decay.low, factor)));
  return step;
}

// Where a step may keep its scale: x is the key's exponent, q the denominator that it leaves. False
// for NaN.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE auto Stays(D d, V x, V q) {
  using Real = hn::TFromD<D>;
  return hn::And(hn::Le(x, hn::Set(d, Real(kLargestArgument))),
                 hn::Ge(q, hn::Set(d, Real(kLowestDenominator))));
}

// One vector of channels: what all of its steps share.
template <class D>
struct WkvChannels {
  hn::VFromD<D> w, u, bonus;
  Decay<D> decay;
  bool wide;  // a bonus is beyond kLargestBonus, or NaN

  using Real = hn::TFromD<D>;
  HWY_INLINE WkvChannels(D d, const Real* w_row, const Real* u_row)
      : w(hn::LoadU(d, w_row)), u(hn::LoadU(d, u_row)), decay(LoadDecay(d, w_row)) {
    const auto near = hn::Le(hn::Abs(u), hn::Set(d, Real(kLargestBonus)));
    wide = !hn::AllTrue(d, near);
    bonus = hn::Exp(d, hn::IfThenElseZero(near, u));
  }
};

// Advances the state by one step. Returns whether the step was the usual one: then `add` is the
// key's exponential, and own = bonus add; else `careful` has all of it.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE bool TakeStep(D d, const WkvChannels<D>& channels, V k, V v, Scaled<D>& state, V& add,
                         WkvStep<D>& careful) {
  const V x = Reduced(d, k, state.n);
  add = hn::Exp(d, x);
  const V p = Decayed(channels.decay, state.p, hn::Mul(add, v));
  const V q = Decayed(channels.decay, state.q, add);
  const auto stay = Stays(d, x, q);
  if (HWY_UNLIKELY(channels.wide || !hn::AllTrue(d, stay))) {
    careful = CarefulStep(d, channels.w, channels.u, channels.decay, k, state, stay);
    state = {Decayed(careful.keep, state.p, hn::Mul(careful.add, v)),
             Decayed(careful.keep, state.q, careful.add), careful.n};
    return false;
  }
  state.p = p;
  state.q = q;
  return true;
}

template <class D, class Real = hn::TFromD<D>>
void ForwardChannels(D d, const WkvForward<Real>& call, std::int64_t c) {
  using V = hn::VFromD<D>;
  const WkvChannels<D> channels(d, call.w + c, call.u + c);
  Scaled<D> state = Enter(d, call.state_in, call.channels, c, call.k);
  for (std::int64_t t = 0; t < call.steps; ++t) {
    if (call.kept != nullptr && t % kWkvSegment == 0) {
      Real* rows = call.kept + t / kWkvSegment * 3 * call.channels;
      hn::StoreU(state.p, d, rows + c);
      hn::StoreU(state.q, d, rows + call.channels + c);
      hn::StoreU(state.n, d, rows + 2 * call.channels + c);
    }
    const std::int64_t i = t * call.stride + c;
    AskAhead(i + kRowsAhead * call.stride, call.k, call.v, call.r, call.y);
    const V v = hn::LoadU(d, call.v + i);
    V p = state.p, q = state.q, own;
    WkvStep<D> careful;
    if (HWY_LIKELY(TakeStep(d, channels, hn::LoadU(d, call.k + i), v, state, own, careful))) {
      own = hn::Mul(channels.bonus, own);
    } else {
      own = careful.own;
      p = hn::Mul(p, careful.fade);
      q = hn::Mul(q, careful.fade);
    }
    V numerator = hn::MulAdd(own, v, p), denominator = hn::Add(q, own);
    if (call.r != nullptr) {
      const auto gate = SplitSigmoid(d, hn::LoadU(d, call.r + i));
      numerator = hn::Mul(numerator, gate.share);
      denominator = hn::Mul(denominator, gate.whole);
    }
    hn::StoreU(hn::Div(numerator, denominator), d, call.y + i);
  }
  if (call.state_out != nullptr) Leave(d, state, call.state_out, call.channels, c);
}

template <class D, class Real = hn::TFromD<D>>
void BackwardChannels(D d, const WkvBackward<Real>& call, std::int64_t c) {
  using V = hn::VFromD<D>;
  constexpr std::size_t kLanes = hn::MaxLanes(D());
  HWY_ALIGN Real p[kWkvSegment * kLanes], q[kWkvSegment * kLanes], e[kWkvSegment * kLanes];
  HWY_ALIGN Real careful[kWkvSegment * 5 * kLanes];  // own, fade, add, keep of careful steps
  bool usual[kWkvSegment];
  const std::size_t lanes = hn::Lanes(d);
  const WkvChannels<D> channels(d, call.w + c, call.u + c);
  double sum_w[kLanes] = {}, sum_u[kLanes] = {};

  // The adjoint of the state after a step, GP = gp 2^-n with n the state's scale there.
  const std::int64_t stride = call.channels;
  V gp = hn::Zero(d), gq = hn::Zero(d);
  for (std::int64_t segment = wkv_segments(call.steps) - 1; segment >= 0; --segment) {
    const std::int64_t begin = segment * kWkvSegment;
    const std::int64_t end = std::min(begin + kWkvSegment, call.steps);
    const Real* rows = call.kept + segment * 3 * stride;
    Scaled<D> state{hn::LoadU(d, rows + c), hn::LoadU(d, rows + stride + c),
                    hn::LoadU(d, rows + 2 * stride + c)};
    for (std::int64_t t = begin; t < end; ++t) {  // the states before each step, once more
      const std::int64_t i = t * call.stride + c;
      const std::size_t at = static_cast<std::size_t>(t - begin) * lanes;
      AskAhead(i - kWkvSegment * call.stride, call.k, call.v, call.r, call.grad_y, call.grad_k);
      hn::Store(state.p, d, p + at);
      hn::Store(state.q, d, q + at);
      WkvStep<D> step;
      V add;
      const bool simple = TakeStep(d, channels, hn::LoadU(d, call.k + i), hn::LoadU(d, call.v + i),
                                   state, add, step);
      usual[t - begin] = simple;
      hn::Store(add, d, e + at);
      if (simple) continue;
      Real* to = careful + 5 * at;
      for (const V& one : {step.own, step.fade, step.add, step.keep.high, step.keep.low}) {
        hn::Store(one, d, to);
        to += lanes;
      }
    }
    if (end == call.steps && call.grad_state_out != nullptr) {
      // p = P e^-o and P = p' 2^n; the rows' o has a fraction beside its whole power of two.
      const V o = hn::LoadU(d, call.state_out + 2 * stride + c);
      const auto empty = hn::Lt(o, hn::Set(d, Real(-1e29)));
      const V factor = hn::IfThenZeroElse(empty, ExpBelow(d, hn::Neg(Rest(d, o, state.n))));
      gp = hn::Mul(factor, hn::LoadU(d, call.grad_state_out + c));
      gq = hn::Mul(factor, hn::LoadU(d, call.grad_state_out + stride + c));
    }
    V segment_w = hn::Zero(d), segment_u = hn::Zero(d), careful_w = hn::Zero(d);
    for (std::int64_t t = end - 1; t >= begin; --t) {
      const std::int64_t i = t * call.stride + c;
      const std::size_t at = static_cast<std::size_t>(t - begin) * lanes;
      const V p_t = hn::Load(d, p + at), q_t = hn::Load(d, q + at);
      const V v = hn::LoadU(d, call.v + i);
      V gy = hn::LoadU(d, call.grad_y + i);
      // y from N and D, which are p_t and q_t, faded, with the token's own share; keep and add as
      // in WkvStep.
      const auto back = [&](V numerator, V denominator, V own, V add, const auto& fade,
                            const Decay<D>& keep) {
        const V inverse = hn::Div(hn::Set(d, Real(1)), denominator);
        const V y = hn::Mul(numerator, inverse);
        if (call.r != nullptr) {
          const V open = Sigmoid(d, hn::LoadU(d, call.r + i));
          const V through = hn::Mul(gy, open);
          const V gr = hn::Mul(hn::Mul(through, hn::Sub(hn::Set(d, Real(1)), open)), y);
          hn::StoreU(gr, d, call.grad_r + i);
          gy = through;
        }
        const V share = hn::Mul(gy, inverse);
        const V part = fade(share);  // gy / D at the state's scale
        const V direct = hn::Mul(share, own);
        const V away = hn::Mul(direct, hn::Sub(v, y));
        hn::StoreU(hn::MulAdd(add, gp, direct), d, call.grad_v + i);
        hn::StoreU(hn::MulAdd(add, hn::MulAdd(v, gp, gq), away), d, call.grad_k + i);
        segment_u = hn::Add(segment_u, away);
        const V along = hn::MulAdd(gp, p_t, hn::Mul(gq, q_t));
        gp = Decayed(keep, gp, part);
        gq = Decayed(keep, gq, hn::Neg(hn::Mul(part, y)));
        return along;
      };
      if (HWY_LIKELY(usual[t - begin])) {
        const V add = hn::Load(d, e + at), own = hn::Mul(channels.bonus, add);
        segment_w = hn::Add(segment_w, back(
                                           hn::MulAdd(own, v, p_t), hn::Add(q_t, own), own, add,
                                           [](V share) { return share; }, channels.decay));
      } else {
        const Real* from = careful + 5 * at;
        const V own = hn::Load(d, from), fade = hn::Load(d, from + lanes);
        const V add = hn::Load(d, from + 2 * lanes);
        const Decay<D> keep{hn::Load(d, from + 3 * lanes), hn::Load(d, from + 4 * lanes)};
        const V along = back(
            hn::MulAdd(own, v, hn::Mul(p_t, fade)), hn::MulAdd(q_t, fade, own), own, add,
            [&](V share) { return hn::Mul(share, fade); }, keep);
        careful_w = hn::MulAdd(along, keep.high, careful_w);
      }
    }
    HWY_ALIGN Real lane_w[kLanes], lane_u[kLanes];
    hn::Store(hn::MulAdd(segment_w, channels.decay.high, careful_w), d, lane_w);
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
    // The gradients of p and q at the rows' scale; o moves both.
    const V p_in = hn::LoadU(d, call.state_in + c), q_in = hn::LoadU(d, call.state_in + stride + c);
    const V factor = FindEntry(d, call.state_in, stride, c, call.k + c).factor;
    const V grad_p = hn::Mul(gp, factor), grad_q = hn::Mul(gq, factor);
    hn::StoreU(grad_p, d, call.grad_state_in + c);
    hn::StoreU(grad_q, d, call.grad_state_in + stride + c);
    hn::StoreU(hn::MulAdd(grad_p, p_in, hn::Mul(grad_q, q_in)), d,
               call.grad_state_in + 2 * stride + c);
  }
}

template <class Real>
void ForwardAll(const WkvForward<Real>& call) {
  const auto one = [&](auto d, std::int64_t c) { ForwardChannels(d, call, c); };
  ForEachOf<Real>(call.first, call.last, one, one);
}
template <class Real>
void BackwardAll(const WkvBackward<Real>& call) {
  const auto one = [&](auto d, std::int64_t c) { BackwardChannels(d, call, c); };
  ForEachOf<Real>(call.first, call.last, one, one);
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
