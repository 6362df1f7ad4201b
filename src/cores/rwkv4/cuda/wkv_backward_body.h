// The adjoint of RWKV-4's WKV, thread by thread; a thread walks one channel of one segment of a
// sequence. Where there are several segments: each segment's adjoint from a zero one; a scan from
// the right, which gives the adjoint at each segment's end; the gradients from there; the sums of
// grad_w and grad_u.
#pragma once

#include "cores/rwkv4/cuda/wkv_step_body.h"

namespace rwkvx::cuda {

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

}  // namespace rwkvx::cuda
