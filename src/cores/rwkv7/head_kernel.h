// RWKV-7's time mix within one head, between the matrix products before and behind it: what the
// recurrence takes, the recurrence (wkv_kernel.h), and the norm, bonus and gate of what it gives;
// and the adjoint. On plain float32 arrays, vectorized over the head's channels. The equations:
// docs/model.md.
#pragma once

#include <cstdint>

namespace rwkvx::rwkv7 {

// The decay of a step is e^(scale sigmoid), with the scale -e^(-1/2).
inline constexpr double kDecayScale = -0.6065306597126334;
// Of the norm behind the recurrence, for any N (RWKV-LM, RWKV-v7/train_temp/src/model.py).
inline constexpr float kHeadNormEpsilon = 64e-5f;
// The least length that a removal key is divided by.
inline constexpr float kLeastNorm = 1e-12f;

// Parameters of a block, (C) each; the kernel reads those of its head.
struct HeadWeights {
  std::int64_t size = 0;      // N, channels of a head
  const float* w0 = nullptr;  // bias of the decay
  const float* a0 = nullptr;  // bias of the in-context learning rate
  const float* v0 = nullptr;  // bias of the share of v_first; null in the first block
  const float* k_k = nullptr;
  const float* k_a = nullptr;
  const float* r_k = nullptr;
  const float* norm_weight = nullptr;
  const float* norm_bias = nullptr;
};

// Tokens of one sequence: (T, C) each, rows `stride` floats apart.
struct HeadRows {
  std::int64_t tokens = 0, stride = 0;
  const float* r = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  const float* g = nullptr;
  const float* w = nullptr;  // without their biases, as the low-rank pairs give them
  const float* a = nullptr;
  const float* share = nullptr;    // of v_first, where v0 is there
  const float* v_first = nullptr;  // values of the first block
};

struct HeadForward {
  HeadWeights weights;
  HeadRows rows;
  const float* state_in = nullptr;  // (N, N), of this head; null: zeros
  float* state_out = nullptr;       // (N, N) or null; may be state_in
  float* out = nullptr;             // (T, C)
  // For the adjoint, or null: what the recurrence gives, (T, C), and the states at the starts of
  // segments, (wkv7_segments(T), N, N).
  float* y = nullptr;
  float* kept = nullptr;
};
// Head `head`: channels head N .. (head + 1) N of every row.
void head_forward(const HeadForward& call, std::int64_t head);

// Rows of parameters' gradients that a call leaves, (C) each: those of HeadWeights, in order.
inline constexpr std::int64_t kHeadGradRows = 8;

// Adjoint of head_forward. Gradients of rows are assigned and may be the rows
// themselves; that of v_first is added to; in the first block, whose v it is, it is added to v's.
struct HeadBackward {
  HeadWeights weights;
  HeadRows rows;
  const float* y = nullptr;
  const float* kept = nullptr;
  const float* grad_out = nullptr;  // (T, C)
  float* grad_r = nullptr;
  float* grad_k = nullptr;
  float* grad_v = nullptr;
  float* grad_g = nullptr;
  float* grad_w = nullptr;
  float* grad_a = nullptr;
  float* grad_share = nullptr;
  float* grad_v_first = nullptr;
  float* sums = nullptr;                  // (kHeadGradRows, stride)
  const float* grad_state_out = nullptr;  // (N, N), of this head; null: zeros
  float* grad_state_in = nullptr;         // (N, N) or null
};
void head_backward(const HeadBackward& call, std::int64_t head);

}  // namespace rwkvx::rwkv7
