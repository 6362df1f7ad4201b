// WKV of RWKV-4, thread by thread; a thread walks one channel of one segment of a sequence. Where
// there are several segments: each segment's sums from an empty state; a scan of them, which gives
// the state at each segment's start; the outputs from there.
#pragma once

#include "cores/rwkv4/cuda/wkv_step_body.h"

namespace rwkvx::cuda {

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

}  // namespace rwkvx::cuda
