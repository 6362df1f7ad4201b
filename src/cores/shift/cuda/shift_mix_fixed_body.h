// The shift and the mixes for few taps and a known number of mixes: a thread has all that it needs
// of a channel in registers, the taps' inputs and gradients as windows that move with the token.
// The same sums as shift_mix_body.h, which is the reference and takes everything else.
#pragma once

#include <type_traits>

#include "cores/shift/cuda/shift_mix_body.h"

namespace rwkvx::cuda {

// At most kTaps taps, exactly kMixes mixes.
template <int kTaps, int kMixes>
struct FixedShiftMix {};
struct AnyShiftMix {};

// Calls use(FixedShiftMix) where there is one for a call, else use(AnyShiftMix).
template <class In, class Use>
void with_shape(const ShiftMixInputs<In>& in, const Use& use) {
  const auto with_mixes = [&](auto taps) {
    constexpr int kTaps = decltype(taps)::value;
    if (in.mixes == 1) return use(FixedShiftMix<kTaps, 1>());
    if (in.mixes == 2) return use(FixedShiftMix<kTaps, 2>());
    if (in.mixes == 3) return use(FixedShiftMix<kTaps, 3>());
    if (in.mixes == 6) return use(FixedShiftMix<kTaps, 6>());
    use(AnyShiftMix());
  };
  using None = std::integral_constant<int, 0>;
  using Few = std::integral_constant<int, 4>;
  using Most = std::integral_constant<int, kShiftMixTaps>;
  if (in.logits != nullptr || in.taps > Most::value) return use(AnyShiftMix());
  if (in.taps == None::value) return with_mixes(None());
  if (in.taps <= Few::value) return with_mixes(Few());
  with_mixes(Most());
}

// One channel at one token: the inputs of its taps, the newest first.
template <int kTaps, class In>
struct ShiftMixWindow {
  static constexpr int kInputs = kTaps > 0 ? kTaps : 1;
  const ShiftMixChannel<In>& channel;
  float conv[kInputs], a[kInputs];
  float gate_x, gate_s, gate_b;
  bool gated;
  std::int64_t t;

  RWKVX_HOST_DEVICE ShiftMixWindow(const ShiftMixChannel<In>& of, std::int64_t token)
      : channel(of), gated(of.in.gate_b != nullptr), t(token) {
    for (int j = 0; j < kInputs; ++j) {
      conv[j] = j < of.in.taps ? of.conv(j) : 0.0f;
      a[j] = of.a(t - j);
    }
    gate_x = gated ? of.in.gate_x[of.c] : 0.0f;
    gate_s = gated ? of.in.gate_s[of.c] : 0.0f;
    gate_b = gated ? of.in.gate_b[of.c] : 0.0f;
  }
  RWKVX_HOST_DEVICE void step_forward() {
    for (int j = kInputs - 1; j > 0; --j) a[j] = a[j - 1];
    a[0] = channel.a(++t);
  }
  RWKVX_HOST_DEVICE void step_back() {
    for (int j = 0; j + 1 < kInputs; ++j) a[j] = a[j + 1];
    a[kInputs - 1] = channel.a(--t - (kInputs - 1));
  }

  // s, the gate, and b of the token.
  struct Token {
    float s, gate, out;
  };
  RWKVX_HOST_DEVICE Token token() const {
    if (t < 0) return {0.0f, 0.0f, channel.out(t)};
    if (kTaps == 0) return {0.0f, 0.0f, a[0]};
    float s = 0.0f;
    for (int j = 0; j < kTaps; ++j)
      if (j < channel.in.taps) s = fmaf(channel.factor(t, j) * conv[j], a[j], s);
    const float gate = gated ? sigmoid(fmaf(gate_x, a[0], fmaf(gate_s, s, gate_b))) : 1.0f;
    return {s, gate, fmaf(gate, s, a[0])};
  }
};

template <int kTaps, int kMixes, class In, class Out>
RWKVX_HOST_DEVICE void shift_mix_forward_thread(const ShiftMixForwardCall<In, Out>& call,
                                                const ShiftMixPlace& place,
                                                FixedShiftMix<kTaps, kMixes>) {
  const auto& in = call.in;
  if (place.c >= in.C) return;
  const ShiftMixChannel<In> channel{in, place.b, place.c};
  const std::int64_t first = place.first(), last = place.last(in.T);
  float mix[kMixes];
  for (int i = 0; i < kMixes; ++i) mix[i] = channel.mix(i);
  ShiftMixWindow<kTaps, In> window(channel, first - 1);
  float before = window.token().out;
  for (std::int64_t t = first; t < last; ++t) {
    window.step_forward();
    const float now = window.token().out;
    for (int i = 0; i < kMixes; ++i)
      store(call.z[i], channel.at(t), fmaf(now - before, mix[i], before));
    before = now;
  }
  if (last == in.T && call.last != nullptr) call.last[place.b * in.C + place.c] = before;
}
template <class In, class Out>
RWKVX_HOST_DEVICE void shift_mix_forward_thread(const ShiftMixForwardCall<In, Out>& call,
                                                const ShiftMixPlace& place, AnyShiftMix) {
  shift_mix_forward_thread(call, place);
}

// From the last token whose shift reaches into the tile to the tile's first.
template <int kTaps, int kMixes, class In, class Out, class Lanes>
RWKVX_HOST_DEVICE void shift_mix_backward_thread(const ShiftMixBackwardCall<In, Out>& call,
                                                 const ShiftMixPlace& place, const Lanes& lanes,
                                                 FixedShiftMix<kTaps, kMixes>) {
  using Window = ShiftMixWindow<kTaps, In>;
  constexpr int kInputs = Window::kInputs;
  const auto& in = call.in;
  const std::int64_t T = in.T, C = in.C;
  const int K = in.taps;
  if (place.c / Lanes::kCount * Lanes::kCount >= C) return;
  const bool inside = place.c < C;
  const std::int64_t c = inside ? place.c : C - 1;
  const ShiftMixChannel<In> channel{in, place.b, c};
  const std::int64_t first = place.first(), last = place.last(T), top = place.top(T, K);
  float mix[kMixes], next[kMixes], sum_mix[kMixes];  // next: dz of the token after
  for (int i = 0; i < kMixes; ++i) {
    mix[i] = channel.mix(i);
    next[i] = top < T ? load(call.dz[i], channel.at(top)) : 0.0f;
    sum_mix[i] = 0.0f;
  }
  float ds[kInputs], sum_conv[kInputs];  // ds of the token and the following
  for (int j = 0; j < kInputs; ++j) ds[j] = sum_conv[j] = 0.0f;
  float sum_x = 0.0f, sum_s = 0.0f, sum_b = 0.0f;

  Window window(channel, top - 1);
  auto token = window.token();
  for (std::int64_t t = top - 1; t >= first; --t) {
    float grad = 0.0f, now[kMixes];  // of b_t; dz of the token
    for (int i = 0; i < kMixes; ++i) {
      now[i] = load(call.dz[i], channel.at(t));
      grad = fmaf(now[i], mix[i], grad);
      if (t + 1 < T) grad = fmaf(next[i], 1.0f - mix[i], grad);
    }
    float direct = grad;
    if (kTaps > 0) {
      float to_s = grad * token.gate;
      if (window.gated) {
        const float dgate = grad * (token.s * (token.gate * (1.0f - token.gate)));
        to_s = fmaf(dgate, window.gate_s, to_s);
        direct = fmaf(dgate, window.gate_x, direct);
        if (t < last) {
          sum_x = fmaf(dgate, window.a[0], sum_x);
          sum_s = fmaf(dgate, token.s, sum_s);
          sum_b += dgate;
        }
      }
      for (int j = kInputs - 1; j > 0; --j) ds[j] = ds[j - 1];
      ds[0] = to_s;
    }
    if (t < last) {
      for (int j = 0; j < kTaps; ++j) {
        if (j >= K) break;
        const float product = ds[0] * window.a[j];
        sum_conv[j] = fmaf(product, channel.factor(t, j), sum_conv[j]);
        if (call.dm != nullptr) {
          const float part = lanes.sum(inside ? product * window.conv[j] : 0.0f);
          const std::int64_t group = place.c / Lanes::kCount;
          if (lanes.first()) call.dm[((group * in.B + place.b) * T + t) * K + j] = part;
        }
        if (t + j < T) direct = fmaf(channel.factor(t + j, j) * window.conv[j], ds[j], direct);
      }
      if (inside) store(call.da, channel.at(t), direct);
    }
    const float out = token.out;
    window.step_back();
    token = window.token();
    for (int i = 0; i < kMixes; ++i) {
      if (t < last) sum_mix[i] = fmaf(now[i], out - token.out, sum_mix[i]);
      next[i] = now[i];
    }
  }

  if (!inside) return;
  float* grads =
      call.grads + (place.b * shift_mix_tiles(T) + place.tile) * (kShiftMixGradRows + K) * C + c;
  grads[0] = sum_x;
  grads[C] = sum_s;
  grads[2 * C] = sum_b;
  for (int i = 0; i < kShiftMixMixes; ++i)
    grads[(3 + i) * C] = i < kMixes ? sum_mix[i < kMixes ? i : 0] : 0.0f;
  for (int j = 0; j < kTaps; ++j)
    if (j < K) grads[(kShiftMixGradRows + j) * C] = sum_conv[j];
}
template <class In, class Out, class Lanes>
RWKVX_HOST_DEVICE void shift_mix_backward_thread(const ShiftMixBackwardCall<In, Out>& call,
                                                 const ShiftMixPlace& place, const Lanes& lanes,
                                                 AnyShiftMix) {
  shift_mix_backward_thread(call, place, lanes);
}

}  // namespace rwkvx::cuda
