// AdamW over flat buffers, for the threads of one block: a piece. The step is that of
// kernels/adamw.h.
#pragma once

#include <string>

#include "rwkvx/ops/cuda/host_device.h"

struct CUstream_st;

namespace rwkvx::cuda {

// Numbers [offset, offset + count) of the buffers, of one parameter.
struct AdamwPiece {
  std::int64_t offset, count;
  float rate_scale;  // times the rate of the call
  float decay;
  Bf16* copy =
      nullptr;  // (count), of the parameter's numbers, written as well; null: there is none
};

struct AdamwCall {
  std::int64_t pieces;
  const AdamwPiece* table;  // (pieces)
  float* x;
  float* grad;  // zeros afterwards
  float* m;     // that of x[state_begin] first
  float* v;
  std::int64_t state_begin;  // where several processes keep parts of m and v
  const float* scale;        // (1), times grad_scale; NaN: nothing is changed; null: 1
  float rate, grad_scale, beta1, beta2, epsilon, m_scale, v_scale;
};

constexpr int kAdamwThreads = 256;

RWKVX_HOST_DEVICE void adamw_thread(const AdamwCall& call, std::int64_t piece, int thread) {
  const AdamwPiece& own = call.table[piece];
  const float rate = call.rate * own.rate_scale, kept = 1.0f - rate * own.decay;
  const float scale = call.grad_scale * (call.scale == nullptr ? 1.0f : *call.scale);
  if (scale != scale) return;
  for (std::int64_t at = thread; at < own.count; at += kAdamwThreads) {
    const std::int64_t i = own.offset + at, kept_at = i - call.state_begin;
    const float g = call.grad[i] * scale;
    const float m = fmaf(call.beta1, call.m[kept_at], (1.0f - call.beta1) * g);
    const float v = fmaf(call.beta2, call.v[kept_at], (1.0f - call.beta2) * g * g);
    const float spread = v * call.v_scale;
    const float away = m * call.m_scale / (sqrtf(spread) + call.epsilon);
    call.m[kept_at] = m;
    call.v[kept_at] = v;
    // 0 times a spread that is not finite is NaN, which is noticed.
    const float x = fmaf(-rate, away, fmaf(call.x[i], kept, spread * 0.0f));
    call.x[i] = x;
    if (own.copy != nullptr) store(own.copy, at, x);
    call.grad[i] = 0.0f;
  }
}

// Starts it on the GPU; "" or what CUDA said about the launch.
std::string launch(const AdamwCall& call, CUstream_st* stream);

}  // namespace rwkvx::cuda
