// WKV of RWKV-4 and its adjoint for one thread: one channel of one sequence. The scheme is that of
// rwkvx/ops/wkv_kernel.h: sums P = p 2^n with a whole n, one exponential per step.
#pragma once

#include "ops/cuda/host_device.h"

namespace rwkvx::cuda {

// Steps between the states that the forward pass keeps for the backward pass.
constexpr int kWkvKeptEvery = 32;

RWKVX_HOST_DEVICE std::int64_t wkv_kept_states(std::int64_t T) {
  return (T + kWkvKeptEvery - 1) / kWkvKeptEvery;
}

// -60 <= w <= 0, |u| <= 60. Arrays are contiguous; S = wkv_kept_states(T).
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

struct WkvSums {
  float p, q, n;
};

// From p, q, o, normalised so that q lies in [1, 2). An empty state takes the scale of the first
// key, so that nothing underflows before the first sum.
RWKVX_HOST_DEVICE WkvSums wkv_enter(float p, float q, float o, float first_key) {
  if (q < 1e-30f) return {0.0f, 0.0f, rintf(first_key * kInverseLn2)};
  const float whole = rintf(o * kInverseLn2);
  const float exponent = static_cast<float>(ilogbf(q));
  const float factor = expf(less_powers(o, whole)) * power2(-exponent);
  return {p * factor, q * factor, whole + exponent};
}

// To p, q, o. o is n ln 2 rounded; what rounding lost goes into p and q.
RWKVX_HOST_DEVICE void wkv_leave(const WkvSums& sums, float* rows, std::int64_t C) {
  const float o = sums.n * 0.69314718055994530942f;
  const float factor = expf(-less_powers(o, sums.n));
  rows[0] = sums.p * factor;
  rows[C] = sums.q * factor;
  rows[2 * C] = sums.q == 0.0f ? -1e30f : o;
}

// e^k at the sums' scale, which is raised first where k is far above it.
RWKVX_HOST_DEVICE float wkv_arrive(float k, WkvSums& sums) {
  float x = less_powers(k, sums.n);
  if (x > 8.0f) {
    const float n = rintf(k * kInverseLn2);
    const float factor = power2(sums.n - n);
    sums = {sums.p * factor, sums.q * factor, n};
    x = less_powers(k, n);
  }
  return expf(x);
}

// Decays the sums by one step and adds the current token, whose exponential is e.
RWKVX_HOST_DEVICE void wkv_advance(const WkvDecay& decay, float e, float v, WkvSums& sums) {
  sums.p = decayed(decay, sums.p, e * v);
  sums.q = decayed(decay, sums.q, e);
  if (sums.q < 9.5367431640625e-07f && sums.q > 0.0f) {  // 2^-20
    const float exponent = static_cast<float>(ilogbf(sums.q));
    const float factor = power2(-exponent);
    sums = {sums.p * factor, sums.q * factor, sums.n + exponent};
  }
}

// Thread `thread` of B C.
template <class Value>
RWKVX_HOST_DEVICE void wkv_forward_thread(const WkvForwardCall<Value>& call, std::int64_t thread) {
  const std::int64_t C = call.C, b = thread / C, c = thread % C;
  const WkvDecay decay = wkv_decay(call.w[c]);
  const float bonus = expf(call.u[c]);
  const float* in = call.state_in + b * 3 * C + c;
  std::int64_t i = b * call.T * C + c;
  WkvSums sums = wkv_enter(in[0], in[C], in[2 * C], load(call.k, i));
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
    const float e = wkv_arrive(load(call.k, i), sums);
    const float own = bonus * e;
    float y = fmaf(own, v, sums.p) / (sums.q + own);
    if (call.r != nullptr) y *= sigmoid(load(call.r, i));
    store(call.y, i, y);
    wkv_advance(decay, e, v, sums);
  }
  wkv_leave(sums, call.state_out + b * 3 * C + c, C);
}

// Thread `thread` of B C.
template <class Value>
RWKVX_HOST_DEVICE void wkv_backward_thread(const WkvBackwardCall<Value>& call,
                                           std::int64_t thread) {
  const std::int64_t C = call.C, T = call.T, b = thread / C, c = thread % C;
  const WkvDecay decay = wkv_decay(call.w[c]);
  const float bonus = expf(call.u[c]);
  const std::int64_t start = b * T * C + c, state = b * 3 * C + c;
  float p[kWkvKeptEvery], q[kWkvKeptEvery], n[kWkvKeptEvery], e[kWkvKeptEvery];
  double sum_w = 0, sum_u = 0;

  // The adjoint of the state after the last step: GP = gp 2^-scale, GQ likewise.
  float gp = 0.0f, gq = 0.0f, scale = 0.0f;
  if (call.grad_state_out != nullptr) {
    const float o = call.state_out[state + 2 * C];
    if (o > -1e29f) {
      scale = rintf(o * kInverseLn2);
      const float factor = expf(-less_powers(o, scale));
      gp = factor * call.grad_state_out[state];
      gq = factor * call.grad_state_out[state + C];
    }
  }
  for (std::int64_t stretch = wkv_kept_states(T) - 1; stretch >= 0; --stretch) {
    const std::int64_t begin = stretch * kWkvKeptEvery;
    const int steps = static_cast<int>(T - begin < kWkvKeptEvery ? T - begin : kWkvKeptEvery);
    const float* kept = call.kept + (b * wkv_kept_states(T) + stretch) * 3 * C + c;
    WkvSums sums{kept[0], kept[C], kept[2 * C]};
    for (int at = 0; at < steps; ++at) {  // the states before each step, once more
      const std::int64_t i = start + (begin + at) * C;
      e[at] = wkv_arrive(load(call.k, i), sums);
      p[at] = sums.p;
      q[at] = sums.q;
      n[at] = sums.n;
      wkv_advance(decay, e[at], load(call.v, i), sums);
    }
    float part_w = 0.0f, part_u = 0.0f;
    for (int at = steps - 1; at >= 0; --at) {
      const std::int64_t i = start + (begin + at) * C;
      if (n[at] != scale) {
        const float factor = power2(n[at] - scale);
        gp *= factor;
        gq *= factor;
        scale = n[at];
      }
      const float v = load(call.v, i);
      const float own = bonus * e[at];
      const float inverse = 1.0f / (q[at] + own);
      const float y = fmaf(own, v, p[at]) * inverse;
      float gy = load(call.grad_y, i);
      if (call.r != nullptr) {
        const float open = sigmoid(load(call.r, i));
        store(call.grad_r, i, gy * open * y * (1.0f - open));
        gy *= open;
      }
      const float part = gy * inverse;
      const float direct = part * own;
      const float away = direct * (v - y);
      store(call.grad_v, i, fmaf(e[at], gp, direct));
      store(call.grad_k, i, fmaf(e[at], fmaf(v, gp, gq), away));
      part_u += away;
      part_w += fmaf(gp, p[at], gq * q[at]);
      gp = decayed(decay, gp, part);
      gq = decayed(decay, gq, -part * y);
    }
    sum_w += static_cast<double>(part_w * decay.high);
    sum_u += static_cast<double>(part_u);
  }
  call.grad_w[b * C + c] = static_cast<float>(sum_w);
  call.grad_u[b * C + c] = static_cast<float>(sum_u);
  if (call.grad_state_in == nullptr) return;
  // p = P e^-o: the gradient of p is GP e^o, that of q likewise, and o moves both.
  const float o = call.state_in[state + 2 * C];
  const float factor = o > -1e29f ? expf(less_powers(o, scale)) : 0.0f;
  const float grad_p = gp * factor, grad_q = gq * factor;
  call.grad_state_in[state] = grad_p;
  call.grad_state_in[state + C] = grad_q;
  call.grad_state_in[state + 2 * C] =
      fmaf(grad_p, call.state_in[state], grad_q * call.state_in[state + C]);
}

}  // namespace rwkvx::cuda
