// WKV of RWKV-4 and its adjoint for one thread: one channel of one sequence. The scheme is that of
// cores/rwkv4/wkv_kernel.h: sums P = p 2^n with a whole n, one exponential per step.
#pragma once

#include "rwkvx/ops/cuda/host_device.h"

namespace rwkvx::cuda {

// Steps between the states that the forward pass keeps for the backward pass.
constexpr int kWkvKeptEvery = 32;

RWKVX_HOST_DEVICE std::int64_t wkv_kept_states(std::int64_t T) {
  return (T + kWkvKeptEvery - 1) / kWkvKeptEvery;
}

// w <= 0. Arrays are contiguous; S = wkv_kept_states(T).
template <class Value>
struct WkvForwardCall {
  std::int64_t B, T, C;
  const float* w;         // (C), decay of one step in log space
  const float* u;         // (C), bonus of the current token in log space
  const Value* k;         // (B, T, C)
  const Value* v;         // (B, T, C)
  const Value* r;         // (B, T, C), or null: then y = wkv
  Value* y;               // (B, T, C) <- sigmoid(r) wkv
  const float* state_in;  // (B, 3, C): p, q, o
  float* state_out;       // (B, 3, C)
  float* kept;            // (B, S, 3, C) <- p, q, n at the start of each stretch, or null
};

// Gradients are assigned, not added.
template <class Value>
struct WkvBackwardCall {
  std::int64_t B, T, C;
  const float* w;
  const float* u;
  const Value* k;
  const Value* v;
  const Value* r;               // or null
  const float* kept;            // what the forward pass kept
  const float* state_in;        // (B, 3, C)
  const float* state_out;       // (B, 3, C), as the forward pass left it
  const Value* grad_y;          // (B, T, C)
  const float* grad_state_out;  // (B, 3, C) or null: gradients of p, q (that of o is not read)
  Value* grad_k;                // (B, T, C)
  Value* grad_v;                // (B, T, C)
  Value* grad_r;                // (B, T, C), or null where r is
  float* grad_w;                // (B, C)
  float* grad_u;                // (B, C)
  float* grad_state_in;         // (B, 3, C) or null
};

constexpr float kInverseLn2 = 1.44269504088896340736f;

// x - n ln 2, with the product in extended precision.
RWKVX_HOST_DEVICE float less_powers(float x, float n) {
  return fmaf(n, -1.42860682030941723212e-6f, fmaf(n, -0.693145751953125f, x));
}

// e^w as the sum of two floats: a slow decay is used thousands of times over.
struct WkvDecay {
  float high, low;
};
RWKVX_HOST_DEVICE WkvDecay wkv_decay(float w) {
  const double decay = exp(static_cast<double>(w));
  const float high = static_cast<float>(decay);
  return {high, static_cast<float>(decay - static_cast<double>(high))};
}
// e^w x + y.
RWKVX_HOST_DEVICE float decayed(const WkvDecay& decay, float x, float y) {
  return fmaf(decay.high, x, fmaf(decay.low, x, y));
}

// The same where n is x / ln 2 but for rounding; of a huge x the rest is lost.
RWKVX_HOST_DEVICE float rest_of(float x, float n) {
  const float rest = less_powers(x, n);
  return rest > 1.0f ? 1.0f : rest < -1.0f ? -1.0f : rest;
}
// Whether a key may set a scale.
RWKVX_HOST_DEVICE bool moderate(float key) { return fabsf(key) < 2e38f; }

struct WkvSums {
  float p, q, n;
};

// From p, q, o, normalized so that q lies in [1, 2): p and q are multiplied with `factor`. An empty
// state takes the scale of the first key, so that nothing underflows before the first sum; its
// factor is 0.
struct WkvEntry {
  float factor, n;
};
RWKVX_HOST_DEVICE WkvEntry wkv_enter(float q, float o, float first_key) {
  if (q < 1e-30f) return {0.0f, moderate(first_key) ? rintf(first_key * kInverseLn2) : 0.0f};
  const float whole = rintf(o * kInverseLn2);
  const float exponent = isfinite(q) ? static_cast<float>(ilogbf(q)) : 0.0f;
  return {expf(rest_of(o, whole)) * power2(-exponent), whole + exponent};
}

// To p, q, o. o is n ln 2 rounded; what rounding lost goes into p and q.
RWKVX_HOST_DEVICE void wkv_leave(const WkvSums& sums, float* rows, std::int64_t C) {
  const float o = sums.n * 0.69314718055994530942f;
  const float factor = expf(-rest_of(o, sums.n));
  rows[0] = sums.p * factor;
  rows[C] = sums.q * factor;
  rows[2 * C] = sums.q == 0.0f ? -1e30f : o;
}

// What a step does: y = (p fade + own v) / (q fade + own), then p <- keep p + add v, q <- keep q +
// add at scale 2^n.
struct WkvStep {
  float own, fade, add, n;
  WkvDecay keep;
};

// One channel: what all of its steps share.
struct WkvChannel {
  float w, u, bonus;
  WkvDecay decay;
};
RWKVX_HOST_DEVICE WkvChannel wkv_channel(float w, float u) { return {w, u, expf(u), wkv_decay(w)}; }

// The step of a key from the state before it; see cores/rwkv4/wkv_kernel.h.
RWKVX_HOST_DEVICE WkvStep wkv_step(const WkvChannel& channel, float k, const WkvSums& sums) {
  float x = less_powers(k, sums.n);
  WkvStep step;
  step.add = expf(x);
  const bool stay =
      x <= 8.0f && decayed(channel.decay, sums.q, step.add) >= 9.5367431640625e-07f;  // 2^-20
  if (stay && fabsf(channel.u) <= 20.0f) {
    step.own = channel.bonus * step.add;
    step.fade = 1.0f;
    step.n = sums.n;
    step.keep = channel.decay;
    return step;
  }
  // All exponents together: the scale follows the larger of the decayed past and the key.
  const bool empty = sums.q == 0.0f;
  const float n = empty && moderate(k) ? rintf(k * kInverseLn2) : sums.n;
  x = less_powers(k, n);
  const float wide = channel.u + x;
  const float down = empty || wide > 0.0f ? wide : 0.0f;
  step.own = expf(wide - down);
  step.fade = empty ? 0.0f : expf(-down);
  const float exponent = !empty && isfinite(sums.q) ? static_cast<float>(ilogbf(sums.q)) : 0.0f;
  const float past = empty ? -INFINITY : fmaf(channel.w, kInverseLn2, exponent);
  const float now = x * kInverseLn2, lead = fmaxf(past, now);
  const bool same = stay && !empty;
  const float change = !same && lead > -INFINITY ? rintf(lead) : 0.0f;
  step.n = n + change;
  // What leads becomes about 1. Of a huge exponent the rest is rounding, and must not change that.
  const bool finite = !same && lead > -INFINITY;
  float rest = less_powers(k, step.n);
  if (rest > 8.0f) rest = 8.0f;
  if (finite && now >= past && rest < -1.0f) rest = -1.0f;
  step.add = expf(rest);
  if (empty) {
    step.keep = {0.0f, 0.0f};
  } else if (channel.w > -40.0f) {
    const float factor = power2(-change);
    step.keep = {channel.decay.high * factor, channel.decay.low * factor};
  } else {
    rest = fmaf(exponent, 0.69314718055994530942f, less_powers(channel.w, change));
    if (rest > 1.0f) rest = 1.0f;
    if (finite && past >= now && rest < -1.0f) rest = -1.0f;
    step.keep = {expf(fmaf(exponent, -0.69314718055994530942f, rest)), 0.0f};
  }
  return step;
}

RWKVX_HOST_DEVICE void wkv_advance(const WkvStep& step, float v, WkvSums& sums) {
  sums = {decayed(step.keep, sums.p, step.add * v), decayed(step.keep, sums.q, step.add), step.n};
}

// Thread `thread` of B C.
template <class Value>
RWKVX_HOST_DEVICE void wkv_forward_thread(const WkvForwardCall<Value>& call, std::int64_t thread) {
  const std::int64_t C = call.C, b = thread / C, c = thread % C;
  const WkvChannel channel = wkv_channel(call.w[c], call.u[c]);
  const float* in = call.state_in + b * 3 * C + c;
  std::int64_t i = b * call.T * C + c;
  const WkvEntry entry = wkv_enter(in[C], in[2 * C], load(call.k, i));
  WkvSums sums{in[0] * entry.factor, in[C] * entry.factor, entry.n};
  float* kept =
      call.kept == nullptr ? nullptr : call.kept + b * wkv_kept_states(call.T) * 3 * C + c;
  for (std::int64_t t = 0; t < call.T; ++t, i += C) {
    if (kept != nullptr && t % kWkvKeptEvery == 0) {
      kept[0] = sums.p;
      kept[C] = sums.q;
      kept[2 * C] = sums.n;
      kept += 3 * C;
    }
    const float v = load(call.v, i);
    const WkvStep step = wkv_step(channel, load(call.k, i), sums);
    float y = fmaf(step.own, v, sums.p * step.fade) / fmaf(sums.q, step.fade, step.own);
    if (call.r != nullptr) y *= sigmoid(load(call.r, i));
    store(call.y, i, y);
    wkv_advance(step, v, sums);
  }
  wkv_leave(sums, call.state_out + b * 3 * C + c, C);
}

// Thread `thread` of B C.
template <class Value>
RWKVX_HOST_DEVICE void wkv_backward_thread(const WkvBackwardCall<Value>& call,
                                           std::int64_t thread) {
  const std::int64_t C = call.C, T = call.T, b = thread / C, c = thread % C;
  const WkvChannel channel = wkv_channel(call.w[c], call.u[c]);
  const std::int64_t start = b * T * C + c, state = b * 3 * C + c;
  float p[kWkvKeptEvery], q[kWkvKeptEvery], n[kWkvKeptEvery];
  double sum_w = 0, sum_u = 0;

  // The adjoint of the state after a step: GP = gp 2^-n with n the state's scale there.
  float gp = 0.0f, gq = 0.0f;
  for (std::int64_t stretch = wkv_kept_states(T) - 1; stretch >= 0; --stretch) {
    const std::int64_t begin = stretch * kWkvKeptEvery;
    const int steps = static_cast<int>(T - begin < kWkvKeptEvery ? T - begin : kWkvKeptEvery);
    const float* kept = call.kept + (b * wkv_kept_states(T) + stretch) * 3 * C + c;
    WkvSums sums{kept[0], kept[C], kept[2 * C]};
    for (int at = 0; at < steps; ++at) {  // the states before each step, once more
      const std::int64_t i = start + (begin + at) * C;
      p[at] = sums.p;
      q[at] = sums.q;
      n[at] = sums.n;
      wkv_advance(wkv_step(channel, load(call.k, i), sums), load(call.v, i), sums);
    }
    if (begin + steps == T && call.grad_state_out != nullptr) {
      const float o = call.state_out[state + 2 * C];
      if (!(o <= -1e29f)) {
        const float factor = expf(-rest_of(o, sums.n));
        gp = factor * call.grad_state_out[state];
        gq = factor * call.grad_state_out[state + C];
      }
    }
    float part_w = 0.0f, part_u = 0.0f;
    for (int at = steps - 1; at >= 0; --at) {
      const std::int64_t i = start + (begin + at) * C;
      const float v = load(call.v, i);
      const WkvStep step = wkv_step(channel, load(call.k, i), {p[at], q[at], n[at]});
      const float inverse = 1.0f / fmaf(q[at], step.fade, step.own);
      const float y = fmaf(step.own, v, p[at] * step.fade) * inverse;
      float gy = load(call.grad_y, i);
      if (call.r != nullptr) {
        const float open = sigmoid(load(call.r, i));
        store(call.grad_r, i, gy * open * (1.0f - open) * y);
        gy *= open;
      }
      const float share = gy * inverse;
      const float part = share * step.fade;
      const float direct = share * step.own;
      const float away = direct * (v - y);
      store(call.grad_v, i, fmaf(step.add, gp, direct));
      store(call.grad_k, i, fmaf(step.add, fmaf(v, gp, gq), away));
      part_u += away;
      part_w = fmaf(fmaf(gp, p[at], gq * q[at]), step.keep.high, part_w);
      gp = decayed(step.keep, gp, part);
      gq = decayed(step.keep, gq, -part * y);
    }
    sum_w += static_cast<double>(part_w);
    sum_u += static_cast<double>(part_u);
  }
  call.grad_w[b * C + c] = static_cast<float>(sum_w);
  call.grad_u[b * C + c] = static_cast<float>(sum_u);
  if (call.grad_state_in == nullptr) return;
  // The gradients of p and q at the rows' scale; o moves both.
  const float factor =
      wkv_enter(call.state_in[state + C], call.state_in[state + 2 * C], load(call.k, start)).factor;
  const float grad_p = gp * factor, grad_q = gq * factor;
  call.grad_state_in[state] = grad_p;
  call.grad_state_in[state + C] = grad_q;
  call.grad_state_in[state + 2 * C] =
      fmaf(grad_p, call.state_in[state], grad_q * call.state_in[state + C]);
}

}  // namespace rwkvx::cuda
