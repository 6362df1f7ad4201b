// RWKV-7's time mix around its recurrence: what it takes of the matrix products' rows, the norm,
// bonus and gate of what it gives, and both adjoints. For the lanes (ops/cuda/lanes.h) of one head
// in a tile of tokens. The equations are those of cores/rwkv7/head_kernel.h.
#pragma once

#include "cores/rwkv7/head_kernel.h"
#include "rwkvx/ops/cuda/lanes.h"

namespace rwkvx::cuda {

constexpr int kHeadTile = 16;       // tokens of one task
constexpr int kHeadMostSize = 128;  // channels of a head

// The parameters, (H N) each, and the rows of all tokens, (rows, H N) each.
template <class Value>
struct HeadInputs {
  std::int64_t rows, H, N;
  const float* w0;
  const float* a0;
  const float* v0;  // null in the first block
  const float* k_k;
  const float* k_a;
  const float* r_k;
  const float* norm_weight;
  const float* norm_bias;
  const Value* r;
  const Value* k;
  const Value* v;
  const Value* g;
  const Value* w;  // without their biases
  const Value* a;
  const Value* share;    // of v_first, where v0 is there
  const Value* v_first;  // values of the first block
};

// What the recurrence takes beside r; see Wkv7ForwardCall.
template <class Value>
struct HeadBeforeCall {
  HeadInputs<Value> in;
  float* d;
  Value* key;
  Value* value;
  Value* z;
  Value* b;
};

// out = (norm(y) + bonus) g.
template <class Value>
struct HeadAfterCall {
  HeadInputs<Value> in;
  const Value* key;
  const Value* value;
  const Value* y;
  Value* out;
};

// Rows of the parameters' gradients, (H N) each: those of HeadInputs, in order.
enum HeadSum { kSumW0, kSumA0, kSumV0, kSumKK, kSumKA, kSumRK, kSumNormWeight, kSumNormBias };
constexpr int kHeadSums = 8;

RWKVX_HOST_DEVICE std::int64_t head_tiles(std::int64_t rows) {
  return (rows + kHeadTile - 1) / kHeadTile;
}
// Tasks of any of the calls: a head of a tile each.
template <class Value>
RWKVX_HOST_DEVICE std::int64_t head_tasks(const HeadInputs<Value>& in) {
  return head_tiles(in.rows) * in.H;
}

// From the gradient of `out`. Of `sums` (tiles, kHeadSums, H N) it assigns the rows of r_k and the
// norm.
template <class Value>
struct HeadAfterAdjointCall {
  HeadInputs<Value> in;
  const Value* key;
  const Value* value;
  const Value* y;
  const Value* grad_out;
  Value* grad_y;       // may be y
  Value* grad_g;       // may be in.g
  Value* bonus_value;  // what the bonus gives to the value
  float* bonus;        // (rows, H), the gradient of sum r key r_k
  float* sums;
};

// From the gradients of what the recurrence takes. Of `sums` it assigns the other rows.
template <class Value>
struct HeadBeforeAdjointCall {
  HeadInputs<Value> in;
  const float* grad_d;
  const Value* grad_r;  // of the recurrence, as are the next ones
  const Value* grad_key;
  const Value* grad_value;
  const Value* grad_z;
  const Value* grad_b;
  const Value* bonus_value;
  const float* bonus;
  Value* to_r;  // gradients of the rows; may be the rows
  Value* to_k;
  Value* to_v;
  Value* to_w;
  Value* to_a;
  Value* to_share;    // null in the first block
  float* to_v_first;  // (rows, H N), added to; in the first block it is added to v's
  float* sums;
};

constexpr float kHeadDecayScale = static_cast<float>(rwkv7::kDecayScale);

// A task's place: tokens [first, last) of head `head`.
struct HeadPlace {
  std::int64_t tile, head, first, last;
};
template <class Value>
RWKVX_HOST_DEVICE HeadPlace head_place(const HeadInputs<Value>& in, std::int64_t task) {
  const std::int64_t tile = task / in.H, first = tile * kHeadTile;
  const std::int64_t end = first + kHeadTile;
  return {tile, task % in.H, first, end < in.rows ? end : in.rows};
}

// Calls use(i, c) for this lane's channels: the i-th is channel c of the head.
template <class Lanes, class Use>
RWKVX_HOST_DEVICE void for_channels(const Lanes& lanes, std::int64_t N, const Use& use) {
  int i = 0;
  for (int c = lanes.index(); c < N; c += Lanes::kCount, ++i) use(i, c);
}
template <class Lanes>
constexpr int kLaneChannels = kHeadMostSize / Lanes::kCount;

// 1 / |k k_k|, of at least the least norm.
template <class Value, class Lanes>
RWKVX_HOST_DEVICE float inverse_norm(const HeadInputs<Value>& in, const Lanes& lanes,
                                     std::int64_t head, std::int64_t at) {
  float squares = 0.0f;
  for_channels(lanes, in.N, [&](int, int c) {
    const float kk = load(in.k, at + c) * in.k_k[head * in.N + c];
    squares = fmaf(kk, kk, squares);
  });
  const float norm = sqrtf(lanes.sum(squares));
  return norm < rwkv7::kLeastNorm ? 1.0f / rwkv7::kLeastNorm : 1.0f / norm;
}

template <class Value, class Lanes>
RWKVX_HOST_DEVICE void head_before(const HeadBeforeCall<Value>& call, std::int64_t task,
                                   const Lanes& lanes) {
  const auto& in = call.in;
  const HeadPlace place = head_place(in, task);
  for (std::int64_t t = place.first; t < place.last; ++t) {
    const std::int64_t at = (t * in.H + place.head) * in.N;
    const float inverse = inverse_norm(in, lanes, place.head, at);
    for_channels(lanes, in.N, [&](int, int c) {
      const std::int64_t p = place.head * in.N + c, i = at + c;
      const float k = load(in.k, i), kappa = k * in.k_k[p] * inverse;
      const float rate = sigmoid(load(in.a, i) + in.a0[p]);
      float v = load(in.v, i);
      if (in.v0 != nullptr)
        v = fmaf(load(in.v_first, i) - v, sigmoid(load(in.share, i) + in.v0[p]), v);
      call.d[i] = expf(kHeadDecayScale * sigmoid(load(in.w, i) + in.w0[p]));
      store(call.key, i, k * fmaf(rate - 1.0f, in.k_a[p], 1.0f));
      store(call.value, i, v);
      store(call.z, i, -kappa);
      store(call.b, i, kappa * rate);
    });
  }
}

// Mean and 1 / standard deviation of y, and sum r key r_k.
struct HeadMoments {
  float mean, scale, bonus;
};
template <class Value, class Lanes>
RWKVX_HOST_DEVICE HeadMoments head_moments(const HeadInputs<Value>& in, const Value* key,
                                           const Value* y, const Lanes& lanes, std::int64_t head,
                                           std::int64_t at) {
  const float share = 1.0f / static_cast<float>(in.N);
  float sum = 0.0f, bonus = 0.0f, squares = 0.0f;
  for_channels(lanes, in.N, [&](int, int c) {
    sum += load(y, at + c);
    bonus = fmaf(load(in.r, at + c) * load(key, at + c), in.r_k[head * in.N + c], bonus);
  });
  HeadMoments moments;
  moments.mean = lanes.sum(sum) * share;
  moments.bonus = lanes.sum(bonus);
  for_channels(lanes, in.N, [&](int, int c) {
    const float away = load(y, at + c) - moments.mean;
    squares = fmaf(away, away, squares);
  });
  moments.scale = 1.0f / sqrtf(fmaf(lanes.sum(squares), share, rwkv7::kHeadNormEpsilon));
  return moments;
}

template <class Value, class Lanes>
RWKVX_HOST_DEVICE void head_after(const HeadAfterCall<Value>& call, std::int64_t task,
                                  const Lanes& lanes) {
  const auto& in = call.in;
  const HeadPlace place = head_place(in, task);
  for (std::int64_t t = place.first; t < place.last; ++t) {
    const std::int64_t at = (t * in.H + place.head) * in.N;
    const HeadMoments moments = head_moments(in, call.key, call.y, lanes, place.head, at);
    for_channels(lanes, in.N, [&](int, int c) {
      const std::int64_t p = place.head * in.N + c, i = at + c;
      const float n = (load(call.y, i) - moments.mean) * moments.scale;
      const float normal = fmaf(n, in.norm_weight[p], in.norm_bias[p]);
      store(call.out, i, fmaf(moments.bonus, load(call.value, i), normal) * load(in.g, i));
    });
  }
}

template <class Value, class Lanes>
RWKVX_HOST_DEVICE void head_after_adjoint(const HeadAfterAdjointCall<Value>& call,
                                          std::int64_t task, const Lanes& lanes) {
  const auto& in = call.in;
  const HeadPlace place = head_place(in, task);
  const float share = 1.0f / static_cast<float>(in.N);
  float of_rk[kLaneChannels<Lanes>] = {}, of_weight[kLaneChannels<Lanes>] = {},
        of_bias[kLaneChannels<Lanes>] = {};
  for (std::int64_t t = place.first; t < place.last; ++t) {
    const std::int64_t at = (t * in.H + place.head) * in.N;
    const HeadMoments moments = head_moments(in, call.key, call.y, lanes, place.head, at);
    // The gradient of the norm's result is grad_out g; dn that of the normalized y.
    float mean = 0.0f, along = 0.0f, bonus = 0.0f;
    for_channels(lanes, in.N, [&](int i, int c) {
      const std::int64_t p = place.head * in.N + c, e = at + c;
      const float grad = load(call.grad_out, e) * load(in.g, e);
      const float n = (load(call.y, e) - moments.mean) * moments.scale;
      const float dn = grad * in.norm_weight[p];
      mean += dn;
      along = fmaf(dn, n, along);
      bonus = fmaf(grad, load(call.value, e), bonus);
      of_weight[i] = fmaf(grad, n, of_weight[i]);
      of_bias[i] += grad;
    });
    mean = lanes.sum(mean) * share;
    along = lanes.sum(along) * share;
    bonus = lanes.sum(bonus);
    if (lanes.first()) call.bonus[t * in.H + place.head] = bonus;
    for_channels(lanes, in.N, [&](int i, int c) {
      const std::int64_t p = place.head * in.N + c, e = at + c;
      const float out = load(call.grad_out, e), grad = out * load(in.g, e);
      const float n = (load(call.y, e) - moments.mean) * moments.scale;
      const float normal = fmaf(n, in.norm_weight[p], in.norm_bias[p]);
      store(call.grad_y, e, (fmaf(-n, along, grad * in.norm_weight[p]) - mean) * moments.scale);
      store(call.bonus_value, e, moments.bonus * grad);
      of_rk[i] = fmaf(bonus, load(in.r, e) * load(call.key, e), of_rk[i]);
      store(call.grad_g, e, out * fmaf(moments.bonus, load(call.value, e), normal));
    });
  }
  float* sums = call.sums + place.tile * kHeadSums * in.H * in.N + place.head * in.N;
  for_channels(lanes, in.N, [&](int i, int c) {
    sums[kSumRK * in.H * in.N + c] = of_rk[i];
    sums[kSumNormWeight * in.H * in.N + c] = of_weight[i];
    sums[kSumNormBias * in.H * in.N + c] = of_bias[i];
  });
}

template <class Value, class Lanes>
RWKVX_HOST_DEVICE void head_before_adjoint(const HeadBeforeAdjointCall<Value>& call,
                                           std::int64_t task, const Lanes& lanes) {
  const auto& in = call.in;
  const HeadPlace place = head_place(in, task);
  float of_w[kLaneChannels<Lanes>] = {}, of_a[kLaneChannels<Lanes>] = {},
        of_share[kLaneChannels<Lanes>] = {}, of_kk[kLaneChannels<Lanes>] = {},
        of_ka[kLaneChannels<Lanes>] = {};
  for (std::int64_t t = place.first; t < place.last; ++t) {
    const std::int64_t at = (t * in.H + place.head) * in.N;
    const float inverse = inverse_norm(in, lanes, place.head, at);
    const float bonus = call.bonus[t * in.H + place.head];
    const auto kappa_grad = [&](std::int64_t e, float rate) {
      return fmaf(load(call.grad_b, e), rate, -load(call.grad_z, e));
    };
    float along = 0.0f;  // kappa . its gradient
    for_channels(lanes, in.N, [&](int, int c) {
      const std::int64_t p = place.head * in.N + c, e = at + c;
      const float kappa = load(in.k, e) * in.k_k[p] * inverse;
      along = fmaf(kappa, kappa_grad(e, sigmoid(load(in.a, e) + in.a0[p])), along);
    });
    along = lanes.sum(along);
    if (inverse >= 1.0f / rwkv7::kLeastNorm) along = 0.0f;  // a norm below the least is a constant
    for_channels(lanes, in.N, [&](int i, int c) {
      const std::int64_t p = place.head * in.N + c, e = at + c;
      const float k = load(in.k, e), k_k = in.k_k[p], k_a = in.k_a[p], kappa = k * k_k * inverse;
      const float rate = sigmoid(load(in.a, e) + in.a0[p]), less = rate - 1.0f;
      const float r = load(in.r, e), r_k = in.r_k[p], change = fmaf(less, k_a, 1.0f);
      const float of_key = fmaf(bonus, r * r_k, load(call.grad_key, e));
      const float grad_kk = fmaf(-kappa, along, kappa_grad(e, rate)) * inverse;
      of_kk[i] = fmaf(grad_kk, k, of_kk[i]);
      of_ka[i] = fmaf(of_key, k * less, of_ka[i]);
      const float to_a = fmaf(load(call.grad_b, e), kappa, of_key * (k * k_a)) * (rate * -less);
      of_a[i] += to_a;
      const float decay = sigmoid(load(in.w, e) + in.w0[p]);
      const float to_w = call.grad_d[e] * expf(kHeadDecayScale * decay) * kHeadDecayScale *
                         (decay * (1.0f - decay));
      of_w[i] += to_w;
      float to_v = load(call.grad_value, e) + load(call.bonus_value, e);
      if (in.v0 != nullptr) {
        const float share = sigmoid(load(in.share, e) + in.v0[p]);
        const float to_share =
            to_v * (load(in.v_first, e) - load(in.v, e)) * (share * (1.0f - share));
        call.to_v_first[e] = fmaf(to_v, share, call.to_v_first[e]);
        to_v *= 1.0f - share;
        store(call.to_share, e, to_share);
        of_share[i] += to_share;
      } else {
        to_v += call.to_v_first[e];
      }
      store(call.to_r, e, fmaf(bonus, k * change * r_k, load(call.grad_r, e)));
      store(call.to_k, e, fmaf(of_key, change, grad_kk * k_k));
      store(call.to_v, e, to_v);
      store(call.to_w, e, to_w);
      store(call.to_a, e, to_a);
    });
  }
  const std::int64_t C = in.H * in.N;
  float* sums = call.sums + place.tile * kHeadSums * C + place.head * in.N;
  for_channels(lanes, in.N, [&](int i, int c) {
    sums[kSumW0 * C + c] = of_w[i];
    sums[kSumA0 * C + c] = of_a[i];
    sums[kSumV0 * C + c] = of_share[i];
    sums[kSumKK * C + c] = of_kk[i];
    sums[kSumKA * C + c] = of_ka[i];
  });
}

}  // namespace rwkvx::cuda
