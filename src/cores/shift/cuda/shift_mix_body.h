// The gated positional shift and the token-shift mixes in one pass over memory, and their adjoint,
// for one thread: one channel of a tile of tokens. See cores/shift/modules/shift_mix.h for the
// formula.
#pragma once

#include "cores/shift/mix_kernel.h"
#include "rwkvx/ops/cuda/lanes.h"

namespace rwkvx::cuda {

constexpr int kShiftMixTile = 32;  // tokens of one thread
constexpr int kShiftMixMostTaps = 64;

RWKVX_HOST_DEVICE std::int64_t shift_mix_tiles(std::int64_t T) {
  return (T + kShiftMixTile - 1) / kShiftMixTile;
}

// What both passes read. Arrays are contiguous. The gate is sigmoid(gate_x a + gate_s s + gate_b),
// or sigmoid(logits), or 1 where neither is given.
template <class In>
struct ShiftMixInputs {
  std::int64_t B, T, C;
  int taps;                          // K; 0: no shift, b = a
  int mixes;                         // 1 to kShiftMixMixes
  const In* a;                       // (B, T, C), normalized
  const float* m;                    // (B or 1, T, K), the taps' factors, or null: 1
  std::int64_t m_stride;             // from one sequence's factors to the next: T K, or 0
  const float* conv;                 // (K, C)
  const float* gate_x;               // (C)
  const float* gate_s;               // (C)
  const float* gate_b;               // (C)
  const float* logits;               // (B, T, G), G a divisor of C
  std::int64_t gates;                // G
  const float* ring;                 // (B, K - 1, C), a of the tokens before, oldest first; null: 0
  const float* prev;                 // (B, C), b of the token before; null: 0
  const float* mix[kShiftMixMixes];  // (C) each
  bool mix_before;                   // they are shares of the token before, not of the token
};

template <class In, class Out>
struct ShiftMixForwardCall {
  ShiftMixInputs<In> in;
  Out* z[kShiftMixMixes];  // (B, T, C) each
  float* last;             // (B, C) <- b of the last token, or null
};

// Rows of the parameters' gradients that a tile leaves, each (C): gate_x, gate_s, gate_b, the
// mixes as shares of the token, then K taps.
constexpr int kShiftMixGradRows = 3 + kShiftMixMixes;

template <class In, class Out>
struct ShiftMixBackwardCall {
  ShiftMixInputs<In> in;
  const Out* dz[kShiftMixMixes];
  In* da;          // (B, T, C)
  float* dlogits;  // (B, T, C), a gate's gradient at each of its channels, or null
  float* grads;    // (B, tiles, kShiftMixGradRows + K, C)
  float* dm;       // (W, B, T, K), one part for each W = ceil(C / lanes) channels, or null
};

// Where a thread works.
struct ShiftMixPlace {
  std::int64_t b, tile, c;
  // Tokens [first, last) of the tile.
  RWKVX_HOST_DEVICE std::int64_t first() const { return tile * kShiftMixTile; }
  RWKVX_HOST_DEVICE std::int64_t last(std::int64_t T) const {
    return first() + kShiftMixTile < T ? first() + kShiftMixTile : T;
  }
  // Behind the last token whose shift of `taps` taps reaches back into it.
  RWKVX_HOST_DEVICE std::int64_t top(std::int64_t T, int taps) const {
    const std::int64_t reach = last(T) + (taps > 0 ? taps - 1 : 0);
    return reach < T ? reach : T;
  }
};

// Blocks of threads: adjacent threads have adjacent channels of one tile.
constexpr int kShiftMixBlock = 128;
struct ShiftMixGrid {
  std::int64_t channel_blocks, tiles, blocks;

  RWKVX_HOST_DEVICE ShiftMixGrid(std::int64_t B, std::int64_t T, std::int64_t C)
      : channel_blocks((C + kShiftMixBlock - 1) / kShiftMixBlock),
        tiles(shift_mix_tiles(T)),
        blocks(B * tiles * channel_blocks) {}
  RWKVX_HOST_DEVICE ShiftMixPlace place(std::int64_t block, std::int64_t thread) const {
    const std::int64_t task = block / channel_blocks;
    return {task / tiles, task % tiles, block % channel_blocks * kShiftMixBlock + thread};
  }
};

// One channel of one sequence.
template <class In>
struct ShiftMixChannel {
  const ShiftMixInputs<In>& in;
  std::int64_t b, c;

  RWKVX_HOST_DEVICE std::int64_t at(std::int64_t t) const { return (b * in.T + t) * in.C + c; }
  RWKVX_HOST_DEVICE float a(std::int64_t t) const {
    if (t >= 0) return load(in.a, at(t));
    const std::int64_t row = in.taps - 1 + t;
    return row >= 0 && in.ring != nullptr ? in.ring[(b * (in.taps - 1) + row) * in.C + c] : 0.0f;
  }
  RWKVX_HOST_DEVICE float factor(std::int64_t t, int j) const {
    return in.m == nullptr ? 1.0f : in.m[b * in.m_stride + t * in.taps + j];
  }
  RWKVX_HOST_DEVICE float conv(int j) const { return in.conv[j * in.C + c]; }
  RWKVX_HOST_DEVICE float shifted(std::int64_t t) const {
    float s = 0.0f;
    for (int j = 0; j < in.taps; ++j) s = fmaf(factor(t, j) * conv(j), a(t - j), s);
    return s;
  }
  // The token's share in mix i.
  RWKVX_HOST_DEVICE float mix(int i) const {
    return in.mix_before ? 1.0f - in.mix[i][c] : in.mix[i][c];
  }
  RWKVX_HOST_DEVICE bool gated() const { return in.gate_b != nullptr || in.logits != nullptr; }
  RWKVX_HOST_DEVICE float gate(std::int64_t t, float a_t, float s) const {
    if (in.logits != nullptr)
      return sigmoid(in.logits[(b * in.T + t) * in.gates + c / (in.C / in.gates)]);
    if (in.gate_b != nullptr)
      return sigmoid(fmaf(in.gate_x[c], a_t, fmaf(in.gate_s[c], s, in.gate_b[c])));
    return 1.0f;
  }
  // b_t.
  RWKVX_HOST_DEVICE float out(std::int64_t t) const {
    if (t < 0) return in.prev == nullptr ? 0.0f : in.prev[b * in.C + c];
    const float a_t = a(t);
    if (in.taps == 0) return a_t;
    const float s = shifted(t);
    return fmaf(gate(t, a_t, s), s, a_t);
  }
};

template <class In, class Out>
RWKVX_HOST_DEVICE void shift_mix_forward_thread(const ShiftMixForwardCall<In, Out>& call,
                                                const ShiftMixPlace& place) {
  const auto& in = call.in;
  if (place.c >= in.C) return;
  const ShiftMixChannel<In> channel{in, place.b, place.c};
  const std::int64_t first = place.first(), last = place.last(in.T);
  float before = channel.out(first - 1);
  for (std::int64_t t = first; t < last; ++t) {
    const float now = channel.out(t);
    for (int i = 0; i < in.mixes; ++i)
      store(call.z[i], channel.at(t), fmaf(now - before, channel.mix(i), before));
    before = now;
  }
  if (last == in.T && call.last != nullptr) call.last[place.b * in.C + place.c] = before;
}

// `lanes` (ops/cuda/lanes.h) are the threads of adjacent channels, this one among them. Threads
// beyond the last channel take part in the sums; where all of them are, there is nothing to do.
template <class In, class Out, class Lanes>
RWKVX_HOST_DEVICE void shift_mix_backward_thread(const ShiftMixBackwardCall<In, Out>& call,
                                                 const ShiftMixPlace& place, const Lanes& lanes) {
  const auto& in = call.in;
  const std::int64_t T = in.T, C = in.C;
  const int K = in.taps;
  if (place.c / Lanes::kCount * Lanes::kCount >= C) return;
  const bool inside = place.c < C;
  const std::int64_t c = inside ? place.c : C - 1;
  const ShiftMixChannel<In> channel{in, place.b, c};
  const std::int64_t first = place.first(), last = place.last(T), top = place.top(T, K);
  float ds[kShiftMixTile + kShiftMixMostTaps - 1], da[kShiftMixTile];
  float sum_x = 0.0f, sum_s = 0.0f, sum_b = 0.0f, sum_mix[kShiftMixMixes] = {};

  float before = channel.out(first - 1);
  for (std::int64_t t = first; t < top; ++t) {
    float grad = 0.0f;  // of b_t
    for (int i = 0; i < in.mixes; ++i) {
      const float mix = channel.mix(i);
      grad = fmaf(load(call.dz[i], channel.at(t)), mix, grad);
      if (t + 1 < T) grad = fmaf(load(call.dz[i], channel.at(t + 1)), 1.0f - mix, grad);
    }
    const float a_t = channel.a(t);
    float now = a_t, direct = grad;
    if (K > 0) {
      const float s = channel.shifted(t), g = channel.gate(t, a_t, s);
      now = fmaf(g, s, a_t);
      float to_s = grad * g;
      if (channel.gated()) {
        const float dgate = grad * (s * (g * (1.0f - g)));
        if (in.logits == nullptr) {
          to_s = fmaf(dgate, in.gate_s[c], to_s);
          direct = fmaf(dgate, in.gate_x[c], direct);
          if (t < last) {
            sum_x = fmaf(dgate, a_t, sum_x);
            sum_s = fmaf(dgate, s, sum_s);
            sum_b += dgate;
          }
        } else if (t < last && inside) {
          call.dlogits[channel.at(t)] = dgate;
        }
      }
      ds[t - first] = to_s;
    }
    if (t < last) {
      da[t - first] = direct;
      for (int i = 0; i < in.mixes; ++i)
        sum_mix[i] = fmaf(load(call.dz[i], channel.at(t)), now - before, sum_mix[i]);
    }
    before = now;
  }

  for (std::int64_t t = first; t < last && inside; ++t) {
    float sum = da[t - first];
    for (int j = 0; j < K && t + j < T; ++j)
      sum = fmaf(channel.factor(t + j, j) * channel.conv(j), ds[t + j - first], sum);
    store(call.da, channel.at(t), sum);
  }

  float* grads =
      call.grads + (place.b * shift_mix_tiles(T) + place.tile) * (kShiftMixGradRows + K) * C + c;
  if (inside) {
    grads[0] = sum_x;
    grads[C] = sum_s;
    grads[2 * C] = sum_b;
    for (int i = 0; i < kShiftMixMixes; ++i) grads[(3 + i) * C] = sum_mix[i];
  }
  for (int j = 0; j < K; ++j) {
    float sum = 0.0f;
    for (std::int64_t t = first; t < last; ++t) {
      const float product = ds[t - first] * channel.a(t - j);
      sum = fmaf(product, channel.factor(t, j), sum);
      if (call.dm == nullptr) continue;
      const float part = lanes.sum(inside ? product * channel.conv(j) : 0.0f);
      const std::int64_t group = place.c / Lanes::kCount;
      if (lanes.first()) call.dm[((group * in.B + place.b) * T + t) * K + j] = part;
    }
    if (inside) grads[(kShiftMixGradRows + j) * C] = sum;
  }
}

}  // namespace rwkvx::cuda
