// WKV of RWKV-4 and its adjoint, thread by thread. The scheme is that of cores/rwkv4/wkv_kernel.h:
// sums P = p 2^n with a whole n, one exponential per step.
//
// A thread walks one channel of one segment of a sequence. Where there are several segments:
// - forward: each segment's sums from an empty state; a scan of them, which gives the state at each
//   segment's start; the outputs from there.
// - backward: each segment's adjoint from a zero one; a scan from the right, which gives the
// adjoint
//   at each segment's end; the gradients from there; the sums of grad_w and grad_u.
// The order of every sum is fixed: equal calls give equal bits.
#pragma once

#include "rwkvx/ops/cuda/host_device.h"

#ifdef __CUDA_ARCH__
#define RWKVX_UNROLL _Pragma("unroll")
#else
#define RWKVX_UNROLL
#endif

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

// ---- forward -----------------------------------------------------------------------------------

// e^{w steps} as rest 2^n.
struct WkvFall {
  WkvDecay rest;
  float n;
};
RWKVX_HOST_DEVICE WkvFall wkv_fall(float w, std::int64_t steps) {
  const double exponent = static_cast<double>(w) * static_cast<double>(steps);
  if (exponent < -1e38) return {{1.0f, 0.0f}, -INFINITY};
  const double n = rint(exponent * 1.4426950408889634074);
  double rest = fma(n, -0.69314718055994530942, exponent);
  if (rest > 1.0) rest = 1.0;  // of a huge exponent
  if (rest < -1.0) rest = -1.0;
  const double factor = exp(rest);
  const float high = static_cast<float>(factor);
  return {{high, static_cast<float>(factor - static_cast<double>(high))}, static_cast<float>(n)};
}

RWKVX_HOST_DEVICE float wkv_exponent(float q) {
  return q > 0.0f && isfinite(q) ? static_cast<float>(ilogbf(q)) : 0.0f;
}

// The sums before a segment, decayed over it, and those of its own steps: at the scale of the
// larger. That one's exponent is the scale by definition, so that of huge scales, whose sums are
// rounded, nothing overflows and the larger stays.
RWKVX_HOST_DEVICE WkvSums wkv_joined(const WkvFall& fall, const WkvSums& past, const WkvSums& own) {
  const float past_exponent = wkv_exponent(past.q), own_exponent = wkv_exponent(own.q);
  const float before = past.q == 0.0f ? -INFINITY : past.n + (past_exponent + fall.n);
  const float after = own.q == 0.0f ? -INFINITY : own.n + own_exponent;
  const float lead = fmaxf(before, after), n = lead > -INFINITY ? lead : 0.0f;
  const float keep = power2(before - n) * power2(-past_exponent);
  const float add = power2(after - n) * power2(-own_exponent);
  const WkvDecay decay{fall.rest.high * keep, fall.rest.low * keep};
  return {decayed(decay, past.p, add * own.p), decayed(decay, past.q, add * own.q), n};
}

template <class Value>
RWKVX_HOST_DEVICE WkvSums wkv_first_sums(const WkvForwardCall<Value>& call, std::int64_t b,
                                         std::int64_t c) {
  const WkvRows rows = wkv_rows(call.state_in, b * 3 * call.C + c, call.C);
  const WkvEntry entry = wkv_enter(rows.q, rows.o, load(call.k, b * call.T * call.C + c));
  return {rows.p * entry.factor, rows.q * entry.factor, entry.n};
}

// A segment's sums from an empty state, for all segments but the last. Thread `thread` of
// B (segments - 1) C.
template <class Value>
RWKVX_HOST_DEVICE void wkv_forward_local_thread(const WkvForwardCall<Value>& call,
                                                std::int64_t thread) {
  const std::int64_t C = call.C;
  const WkvPlace place = wkv_place(call, thread, /*first=*/0, /*last=*/1);
  const WkvChannel channel = wkv_channel(call.w[place.c], call.u[place.c]);
  WkvSums sums{0.0f, 0.0f, 0.0f};
  for (std::int64_t t = place.begin; t < place.end; t += kWkvLoads) {
    const std::int64_t i = (place.b * call.T + t) * C + place.c;
    float k[kWkvLoads], v[kWkvLoads];
    wkv_load(k, call.k, i, C, kWkvLoads);
    wkv_load(v, call.v, i, C, kWkvLoads);
    RWKVX_UNROLL
    for (int at = 0; at < kWkvLoads; ++at) wkv_advance(wkv_step(channel, k[at], sums), v[at], sums);
  }
  float* slot = wkv_slot(call, place);
  slot[0] = sums.p;
  slot[C] = sums.q;
  slot[2 * C] = sums.n;
}

// From the segments' own sums to the sums at their starts. Thread `thread` of B C.
template <class Value>
RWKVX_HOST_DEVICE void wkv_forward_scan_thread(const WkvForwardCall<Value>& call,
                                               std::int64_t thread) {
  const std::int64_t C = call.C, b = thread / C, c = thread % C;
  const WkvSplit split = wkv_split(call.T, call.segment);
  const WkvFall fall = wkv_fall(call.w[c], split.steps);
  WkvSums sums = wkv_first_sums(call, b, c);
  for (std::int64_t s = 0; s < split.segments; s += kWkvLoads) {
    float* slot = call.workspace + (b * split.segments + s) * 3 * C + c;
    const int stored = wkv_loads(split.segments - s), count = wkv_loads(split.segments - 1 - s);
    float p[kWkvLoads], q[kWkvLoads], n[kWkvLoads];
    wkv_load(p, slot, 0, 3 * C, count);
    wkv_load(q, slot, C, 3 * C, count);
    wkv_load(n, slot, 2 * C, 3 * C, count);
    RWKVX_UNROLL
    for (int at = 0; at < kWkvLoads; ++at) {
      if (at >= stored) break;
      slot[at * 3 * C] = sums.p;
      slot[at * 3 * C + C] = sums.q;
      slot[at * 3 * C + 2 * C] = sums.n;
      if (at < count) sums = wkv_joined(fall, sums, {p[at], q[at], n[at]});
    }
  }
}

// The outputs. Thread `thread` of B segments C.
template <class Value>
RWKVX_HOST_DEVICE void wkv_forward_thread(const WkvForwardCall<Value>& call, std::int64_t thread) {
  const std::int64_t C = call.C;
  const WkvPlace place = wkv_place(call, thread, /*first=*/0, /*last=*/0);
  const WkvChannel channel = wkv_channel(call.w[place.c], call.u[place.c]);
  WkvSums sums;
  if (place.S > 1) {
    const float* slot = wkv_slot(call, place);
    sums = {slot[0], slot[C], slot[2 * C]};
  } else {
    sums = wkv_first_sums(call, place.b, place.c);
  }
  for (std::int64_t t = place.begin; t < place.end; t += kWkvLoads) {
    if (call.kept != nullptr && t % kWkvKeptEvery == 0) {
      const std::int64_t stretch = place.b * wkv_kept_states(call.T) + t / kWkvKeptEvery;
      float* kept = call.kept + stretch * 3 * C + place.c;
      kept[0] = sums.p;
      kept[C] = sums.q;
      kept[2 * C] = sums.n;
    }
    const std::int64_t i = (place.b * call.T + t) * C + place.c;
    const int count = wkv_loads(place.end - t);
    float k[kWkvLoads], v[kWkvLoads], r[kWkvLoads];
    wkv_load(k, call.k, i, C, count);
    wkv_load(v, call.v, i, C, count);
    if (call.r != nullptr) wkv_load(r, call.r, i, C, count);
    RWKVX_UNROLL
    for (int at = 0; at < kWkvLoads; ++at) {
      if (at >= count) break;
      const WkvStep step = wkv_step(channel, k[at], sums);
      float y = fmaf(step.own, v[at], sums.p * step.fade) / fmaf(sums.q, step.fade, step.own);
      if (call.r != nullptr) y *= sigmoid(r[at]);
      store(call.y, i + at * C, y);
      wkv_advance(step, v[at], sums);
    }
  }
  if (call.state_out != nullptr && place.s == place.S - 1)
    wkv_leave(sums, call.state_out + place.b * 3 * C + place.c, C);
}

// ---- backward ----------------------------------------------------------------------------------

// The adjoint of a state: GP = gp 2^-n, GQ = gq 2^-n with n the state's scale.
struct WkvAdjoint {
  float p, q;
};

// The adjoint of the last state, at its rows' scale.
template <class Value>
RWKVX_HOST_DEVICE WkvAdjoint wkv_last_adjoint(const WkvBackwardCall<Value>& call, std::int64_t b,
                                              std::int64_t c) {
  const std::int64_t C = call.C, state = b * 3 * C + c;
  if (call.grad_state_out == nullptr || call.state_out[state + 2 * C] <= -1e29f)
    return {0.0f, 0.0f};
  return {call.grad_state_out[state], call.grad_state_out[state + C]};
}

// An adjoint goes from the kept state at step `end`, or from the last state's rows, to `sums`,
// which the steps before `end` leave: the same state, whose scale may be another. Where the forward
// pass had a segment end there, it is. The two q tell the scales apart even where n is rounded.
template <class Value>
RWKVX_HOST_DEVICE float wkv_rescale(const WkvBackwardCall<Value>& call, std::int64_t b,
                                    std::int64_t c, std::int64_t end, const WkvSums& sums) {
  const std::int64_t C = call.C;
  if (end == call.T) {
    if (call.grad_state_out == nullptr) return 0.0f;
    return expf(-rest_of(call.state_out[(b * 3 + 2) * C + c], sums.n));
  }
  const std::int64_t stretch = b * wkv_kept_states(call.T) + end / kWkvKeptEvery;
  const float ratio = call.kept[(stretch * 3 + 1) * C + c] / sums.q;
  if (!(ratio > 0.0f && isfinite(ratio))) return 1.0f;
  return power2(static_cast<float>(ilogbf(ratio * 1.41421356237309504880f)));
}

template <class Value>
RWKVX_HOST_DEVICE WkvSums wkv_kept_sums(const WkvBackwardCall<Value>& call, std::int64_t b,
                                        std::int64_t c, std::int64_t t) {
  const std::int64_t C = call.C, stretch = b * wkv_kept_states(call.T) + t / kWkvKeptEvery;
  const float* kept = call.kept + stretch * 3 * C + c;
  return {kept[0], kept[C], kept[2 * C]};
}

RWKVX_HOST_DEVICE WkvDecay product(const WkvDecay& a, const WkvDecay& b) {
  const float low = fmaf(a.high, b.low, a.low * b.high), high = fmaf(a.high, b.high, low);
  return {high, fmaf(a.high, b.high, -high) + low};
}

// A segment's adjoint at its start from a zero one at its end, and the factor from end to start,
// for all segments but the first. They are summed from left to right with the decay since the start
// in `since`, so that no state is needed twice. Thread `thread` of B (segments - 1) C.
template <class Value>
RWKVX_HOST_DEVICE void wkv_backward_local_thread(const WkvBackwardCall<Value>& call,
                                                 std::int64_t thread) {
  const std::int64_t C = call.C;
  const WkvPlace place = wkv_place(call, thread, /*first=*/1, /*last=*/0);
  const WkvChannel channel = wkv_channel(call.w[place.c], call.u[place.c]);
  WkvSums sums = wkv_kept_sums(call, place.b, place.c, place.begin);
  WkvAdjoint grad{0.0f, 0.0f};
  WkvDecay since{1.0f, 0.0f};
  for (std::int64_t t = place.begin; t < place.end; t += kWkvLoads) {
    const std::int64_t i = (place.b * call.T + t) * C + place.c;
    const int count = wkv_loads(place.end - t);
    float k[kWkvLoads], v[kWkvLoads], r[kWkvLoads], gy[kWkvLoads];
    wkv_load(k, call.k, i, C, count);
    wkv_load(v, call.v, i, C, count);
    if (call.r != nullptr) wkv_load(r, call.r, i, C, count);
    wkv_load(gy, call.grad_y, i, C, count);
    if (t > place.begin && t % kWkvKeptEvery == 0) {
      const float rescale = wkv_rescale(call, place.b, place.c, t, sums);
      since = {since.high * rescale, since.low * rescale};
      sums = wkv_kept_sums(call, place.b, place.c, t);
    }
    WkvAdjoint part{0.0f, 0.0f};
    RWKVX_UNROLL
    for (int at = 0; at < kWkvLoads; ++at) {
      if (at >= count) break;
      const WkvStep step = wkv_step(channel, k[at], sums);
      const float inverse = 1.0f / fmaf(sums.q, step.fade, step.own);
      const float y = fmaf(step.own, v[at], sums.p * step.fade) * inverse;
      if (call.r != nullptr) gy[at] *= sigmoid(r[at]);
      const float share = gy[at] * inverse * step.fade * since.high;
      part.p += share;
      part.q = fmaf(-share, y, part.q);
      since = product(since, step.keep);
      wkv_advance(step, v[at], sums);
    }
    grad.p += part.p;
    grad.q += part.q;
  }
  float* slot = wkv_slot(call, place);
  slot[0] = grad.p;
  slot[C] = grad.q;
  slot[2 * C] = since.high * wkv_rescale(call, place.b, place.c, place.end, sums);
}

// From the segments' own adjoints to the adjoints at their ends. Thread `thread` of B C.
template <class Value>
RWKVX_HOST_DEVICE void wkv_backward_scan_thread(const WkvBackwardCall<Value>& call,
                                                std::int64_t thread) {
  const std::int64_t C = call.C, b = thread / C, c = thread % C;
  const std::int64_t segments = wkv_split(call.T, call.segment).segments;
  WkvAdjoint grad = wkv_last_adjoint(call, b, c);
  for (std::int64_t left = segments; left > 0; left -= kWkvLoads) {
    float* slot = call.workspace + (b * segments + left - 1) * 3 * C + c;
    const int stored = wkv_loads(left), count = wkv_loads(left - 1);
    float p[kWkvLoads], q[kWkvLoads], keep[kWkvLoads];
    wkv_load(p, slot, 0, -3 * C, count);
    wkv_load(q, slot, C, -3 * C, count);
    wkv_load(keep, slot, 2 * C, -3 * C, count);
    RWKVX_UNROLL
    for (int at = 0; at < kWkvLoads; ++at) {
      if (at >= stored) break;
      slot[-at * 3 * C] = grad.p;
      slot[-at * 3 * C + C] = grad.q;
      if (at < count) grad = {fmaf(keep[at], grad.p, p[at]), fmaf(keep[at], grad.q, q[at])};
    }
  }
}

// The gradients; those of w and u are the segment's share where there are several. Thread `thread`
// of B segments C.
template <class Value>
RWKVX_HOST_DEVICE void wkv_backward_thread(const WkvBackwardCall<Value>& call,
                                           std::int64_t thread) {
  const std::int64_t C = call.C;
  const WkvPlace place = wkv_place(call, thread, /*first=*/0, /*last=*/0);
  const std::int64_t b = place.b, c = place.c, start = b * call.T * C + c;
  const WkvChannel channel = wkv_channel(call.w[c], call.u[c]);
  const bool enters = place.s == 0 && call.grad_state_in != nullptr;
  WkvRows rows{0.0f, 0.0f, 0.0f};
  float entry = 0.0f;
  if (enters) {  // before grad_k can replace the first key
    rows = wkv_rows(call.state_in, b * 3 * C + c, C);
    entry = wkv_enter(rows.q, rows.o, load(call.k, start)).factor;
  }
  float* slot = nullptr;
  WkvAdjoint grad;  // of the state after a step
  if (place.S > 1) {
    slot = wkv_slot(call, place);
    grad = {slot[0], slot[C]};
  } else {
    grad = wkv_last_adjoint(call, b, c);
  }

  float p[kWkvKeptEvery], q[kWkvKeptEvery], n[kWkvKeptEvery];
  double sum_w = 0, sum_u = 0;
  for (std::int64_t end = place.end; end > place.begin;) {
    const std::int64_t begin = (end - 1) / kWkvKeptEvery * kWkvKeptEvery;
    const int steps = static_cast<int>(end - begin);
    WkvSums sums = wkv_kept_sums(call, b, c, begin);
    for (int first = 0; first < steps; first += kWkvLoads) {  // the states before each step again
      const std::int64_t i = start + (begin + first) * C;
      const int count = wkv_loads(steps - first);
      float k[kWkvLoads], v[kWkvLoads];
      wkv_load(k, call.k, i, C, count);
      wkv_load(v, call.v, i, C, count);
      RWKVX_UNROLL
      for (int at = 0; at < kWkvLoads; ++at) {
        if (at >= count) break;
        p[first + at] = sums.p;
        q[first + at] = sums.q;
        n[first + at] = sums.n;
        wkv_advance(wkv_step(channel, k[at], sums), v[at], sums);
      }
    }
    const float rescale = wkv_rescale(call, b, c, end, sums);
    grad = {grad.p * rescale, grad.q * rescale};
    float part_w = 0.0f, part_u = 0.0f;
    for (int first = (steps - 1) / kWkvLoads * kWkvLoads; first >= 0; first -= kWkvLoads) {
      const std::int64_t i = start + (begin + first) * C;
      const int count = wkv_loads(steps - first);
      float k[kWkvLoads], v[kWkvLoads], r[kWkvLoads], gys[kWkvLoads];
      wkv_load(k, call.k, i, C, count);
      wkv_load(v, call.v, i, C, count);
      if (call.r != nullptr) wkv_load(r, call.r, i, C, count);
      wkv_load(gys, call.grad_y, i, C, count);
      RWKVX_UNROLL
      for (int at = kWkvLoads - 1; at >= 0; --at) {
        if (at >= count) continue;
        const float p_t = p[first + at], q_t = q[first + at];
        const WkvStep step = wkv_step(channel, k[at], {p_t, q_t, n[first + at]});
        const float inverse = 1.0f / fmaf(q_t, step.fade, step.own);
        const float y = fmaf(step.own, v[at], p_t * step.fade) * inverse;
        float gy = gys[at];
        if (call.r != nullptr) {
          const float open = sigmoid(r[at]);
          store(call.grad_r, i + at * C, gy * open * (1.0f - open) * y);
          gy *= open;
        }
        const float share = gy * inverse;
        const float part = share * step.fade;
        const float direct = share * step.own;
        const float away = direct * (v[at] - y);
        store(call.grad_v, i + at * C, fmaf(step.add, grad.p, direct));
        store(call.grad_k, i + at * C, fmaf(step.add, fmaf(v[at], grad.p, grad.q), away));
        part_u += away;
        part_w = fmaf(fmaf(grad.p, p_t, grad.q * q_t), step.keep.high, part_w);
        grad = {decayed(step.keep, grad.p, part), decayed(step.keep, grad.q, -part * y)};
      }
    }
    sum_w += static_cast<double>(part_w);
    sum_u += static_cast<double>(part_u);
    end = begin;
  }
  if (place.S > 1) {
    slot[0] = static_cast<float>(sum_w);
    slot[C] = static_cast<float>(sum_u);
  } else {
    call.grad_w[b * C + c] = static_cast<float>(sum_w);
    call.grad_u[b * C + c] = static_cast<float>(sum_u);
  }
  if (!enters) return;
  // The gradients of p and q at the rows' scale; o moves both.
  const float grad_p = grad.p * entry, grad_q = grad.q * entry;
  const std::int64_t state = b * 3 * C + c;
  call.grad_state_in[state] = grad_p;
  call.grad_state_in[state + C] = grad_q;
  call.grad_state_in[state + 2 * C] = fmaf(grad_p, rows.p, grad_q * rows.q);
}

// The gradients of w and u from the segments' shares. Thread `thread` of B C.
template <class Value>
RWKVX_HOST_DEVICE void wkv_backward_sums_thread(const WkvBackwardCall<Value>& call,
                                                std::int64_t thread) {
  const std::int64_t C = call.C, b = thread / C, c = thread % C;
  const std::int64_t segments = wkv_split(call.T, call.segment).segments;
  double sum_w = 0, sum_u = 0;
  for (std::int64_t s = 0; s < segments; s += kWkvLoads) {
    const float* slot = call.workspace + (b * segments + s) * 3 * C + c;
    const int count = wkv_loads(segments - s);
    float w[kWkvLoads], u[kWkvLoads];
    wkv_load(w, slot, 0, 3 * C, count);
    wkv_load(u, slot, C, 3 * C, count);
    RWKVX_UNROLL
    for (int at = 0; at < kWkvLoads; ++at) {
      sum_w += static_cast<double>(w[at]);
      sum_u += static_cast<double>(u[at]);
    }
  }
  call.grad_w[thread] = static_cast<float>(sum_w);
  call.grad_u[thread] = static_cast<float>(sum_u);
}

// ---- phases ------------------------------------------------------------------------------------

struct WkvForwardLocal {
  template <class Value>
  RWKVX_HOST_DEVICE void operator()(const WkvForwardCall<Value>& call, std::int64_t thread) const {
    wkv_forward_local_thread(call, thread);
  }
};
struct WkvForwardScan {
  template <class Value>
  RWKVX_HOST_DEVICE void operator()(const WkvForwardCall<Value>& call, std::int64_t thread) const {
    wkv_forward_scan_thread(call, thread);
  }
};
struct WkvForwardOutputs {
  template <class Value>
  RWKVX_HOST_DEVICE void operator()(const WkvForwardCall<Value>& call, std::int64_t thread) const {
    wkv_forward_thread(call, thread);
  }
};
struct WkvBackwardLocal {
  template <class Value>
  RWKVX_HOST_DEVICE void operator()(const WkvBackwardCall<Value>& call, std::int64_t thread) const {
    wkv_backward_local_thread(call, thread);
  }
};
struct WkvBackwardScan {
  template <class Value>
  RWKVX_HOST_DEVICE void operator()(const WkvBackwardCall<Value>& call, std::int64_t thread) const {
    wkv_backward_scan_thread(call, thread);
  }
};
struct WkvBackwardGradients {
  template <class Value>
  RWKVX_HOST_DEVICE void operator()(const WkvBackwardCall<Value>& call, std::int64_t thread) const {
    wkv_backward_thread(call, thread);
  }
};
struct WkvBackwardSums {
  template <class Value>
  RWKVX_HOST_DEVICE void operator()(const WkvBackwardCall<Value>& call, std::int64_t thread) const {
    wkv_backward_sums_thread(call, thread);
  }
};

// Calls start(phase, threads) for a pass's phases, each of which needs the one before to have
// ended.
template <class Value, class Start>
void wkv_phases(const WkvForwardCall<Value>& call, const Start& start) {
  const std::int64_t channels = call.B * call.C;
  const std::int64_t segments = wkv_split(call.T, call.segment).segments;
  if (segments > 1) {
    start(WkvForwardLocal(), channels * (segments - 1));
    start(WkvForwardScan(), channels);
  }
  start(WkvForwardOutputs(), channels * segments);
}
template <class Value, class Start>
void wkv_phases(const WkvBackwardCall<Value>& call, const Start& start) {
  const std::int64_t channels = call.B * call.C;
  const std::int64_t segments = wkv_split(call.T, call.segment).segments;
  if (segments > 1) {
    start(WkvBackwardLocal(), channels * (segments - 1));
    start(WkvBackwardScan(), channels);
  }
  start(WkvBackwardGradients(), channels * segments);
  if (segments > 1) start(WkvBackwardSums(), channels);
}

}  // namespace rwkvx::cuda
