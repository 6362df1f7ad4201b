// What the threads of RWKV-4's WKV share: the calls, how they are cut into segments, and one step.
// The scheme is that of cores/rwkv4/wkv_kernel.h: sums P = p 2^n with a whole n, one exponential
// per step.
#pragma once

#include "rwkvx/ops/cuda/host_device.h"

namespace rwkvx::cuda {

// Steps between the states that the forward pass keeps for the backward pass.
constexpr int kWkvKeptEvery = 32;
// Steps, or segments, whose numbers are loaded before the first of them is used.
constexpr int kWkvLoads = 8;

RWKVX_HOST_DEVICE std::int64_t wkv_kept_states(std::int64_t T) {
  return (T + kWkvKeptEvery - 1) / kWkvKeptEvery;
}

// How a call's `segment` cuts T steps.
struct WkvSplit {
  std::int64_t steps, segments;  // the last segment may be shorter
};
RWKVX_HOST_DEVICE WkvSplit wkv_split(std::int64_t T, std::int64_t segment) {
  if (segment <= 0 || segment >= T) return {T, 1};
  const std::int64_t steps = wkv_kept_states(segment) * kWkvKeptEvery;
  return {steps, (T + steps - 1) / steps};
}

// The `segment` to call with: as many segments as give a GPU enough threads. Since several segments
// are walked twice, fewer than four gain nothing over one.
inline std::int64_t wkv_segment(std::int64_t B, std::int64_t T, std::int64_t C) {
  constexpr std::int64_t kThreads = 65536, kLeastSteps = 64, kLeastSegments = 4;
  const std::int64_t channels = B * C, wanted = channels > 0 ? kThreads / channels : 0;
  if (wanted < kLeastSegments) return T;
  std::int64_t steps = wkv_kept_states((T + wanted - 1) / wanted) * kWkvKeptEvery;
  if (steps < kLeastSteps) steps = kLeastSteps;
  return steps * kLeastSegments > T ? T : steps;
}

// Floats of a call's `workspace`: (B, segments, 3, C), or none for one segment.
inline std::int64_t wkv_workspace(std::int64_t B, std::int64_t T, std::int64_t C,
                                  std::int64_t segment) {
  const std::int64_t segments = wkv_split(T, segment).segments;
  return segments > 1 ? B * segments * 3 * C : 0;
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
  const float* state_in;  // (B, 3, C): p, q, o, or null: the empty state
  float* state_out;       // (B, 3, C), may be state_in; or null. `segment` may move its o
  float* kept;            // (B, S, 3, C) <- p, q, n at the start of each stretch, or null
  // Steps of a segment, rounded up to whole stretches; <= 0 or >= T: one segment.
  std::int64_t segment = 0;
  float* workspace = nullptr;  // of wkv_workspace() floats; null where those are none
};

// Gradients are assigned, not added. They may be written over what they are gradients of: grad_k
// may be k, grad_v v, grad_r r and grad_state_in state_in; and grad_state_in may be grad_state_out.
// The forward pass may have had other segments.
template <class Value>
struct WkvBackwardCall {
  std::int64_t B, T, C;
  const float* w;
  const float* u;
  const Value* k;
  const Value* v;
  const Value* r;               // or null
  const float* kept;            // what the forward pass kept
  const float* state_in;        // (B, 3, C), or null: the empty state; read for grad_state_in
  const float* state_out;       // (B, 3, C), as the forward pass left it; read with the next
  const Value* grad_y;          // (B, T, C)
  const float* grad_state_out;  // (B, 3, C) or null: gradients of p, q (that of o is not read)
  Value* grad_k;                // (B, T, C)
  Value* grad_v;                // (B, T, C)
  Value* grad_r;                // (B, T, C), or null where r is
  float* grad_w;                // (B, C)
  float* grad_u;                // (B, C)
  float* grad_state_in;         // (B, 3, C) or null
  std::int64_t segment = 0;     // as in WkvForwardCall
  float* workspace = nullptr;   // likewise
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

// The rows of a state, (3, C) from `i` on.
struct WkvRows {
  float p, q, o;
};
RWKVX_HOST_DEVICE WkvRows wkv_rows(const float* state, std::int64_t i, std::int64_t C) {
  if (state == nullptr) return {0.0f, 0.0f, -1e30f};
  return {state[i], state[i + C], state[i + 2 * C]};
}

// `count` numbers, C apart, from `i` on.
template <class Value>
RWKVX_HOST_DEVICE void wkv_load(float (&to)[kWkvLoads], const Value* from, std::int64_t i,
                                std::int64_t C, int count) {
  RWKVX_UNROLL
  for (int at = 0; at < kWkvLoads; ++at) to[at] = at < count ? load(from, i + at * C) : 0.0f;
}
RWKVX_HOST_DEVICE int wkv_loads(std::int64_t left) {
  return static_cast<int>(left < kWkvLoads ? left : kWkvLoads);
}

// What a thread walks: steps [begin, end) of channel c of sequence b, segment s of S.
struct WkvPlace {
  std::int64_t b, s, c, S, begin, end;
};
// For B x (S - first - last) x C threads, which leave out each sequence's first or last segments.
template <class Call>
RWKVX_HOST_DEVICE WkvPlace wkv_place(const Call& call, std::int64_t thread, std::int64_t first,
                                     std::int64_t last) {
  const WkvSplit split = wkv_split(call.T, call.segment);
  const std::int64_t row = thread / call.C, S = split.segments, walked = S - first - last;
  const std::int64_t b = row / walked, s = first + row % walked;
  const std::int64_t begin = s * split.steps, end = begin + split.steps;
  return {b, s, thread % call.C, S, begin, end < call.T ? end : call.T};
}
// A segment's rows in the workspace.
template <class Call>
RWKVX_HOST_DEVICE float* wkv_slot(const Call& call, const WkvPlace& place) {
  return call.workspace + (place.b * place.S + place.s) * 3 * call.C + place.c;
}

}  // namespace rwkvx::cuda
