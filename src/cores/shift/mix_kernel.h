// Everything between the residual stream and a mixer's matrix products in one pass over memory, and
// its adjoint: layer norm, gated positional shift (modules/conv_shift.h) and the token-shift mixes
//   a_t = norm x_t,  s_t = sum_j m_j(t) conv_j a_{t-j},  b_t = a_t + sigmoid(gate) s_t,
//   z_i,t = b_{t-1} + (b_t - b_{t-1}) mix_i, or b_t + (b_{t-1} - b_t) mix_i where a core's mixes
//   are shares of the token before.
// On plain float32 arrays of one sequence, vectorized over channels.
#pragma once

#include <cstdint>

namespace rwkvx {

inline constexpr int kShiftMixTaps = 8;   // the most that the kernel takes
inline constexpr int kShiftMixMixes = 6;  // RWKV-7's time mix

// The parameters of one site. Null pointers are parts that its switches leave out.
struct ShiftMixSite {
  std::int64_t channels = 0;
  int taps = 0;                        // K; 0: no shift
  int mixes = 0;                       // 1 to kShiftMixMixes
  bool mix_before = false;             // mixes are shares of the token before
  const float* norm_weight = nullptr;  // (C)
  const float* norm_bias = nullptr;    // (C)
  const float* conv = nullptr;         // (K, C)
  const float* gate_x = nullptr;       // (C); all three gate arrays or none (the gate is 1)
  const float* gate_s = nullptr;
  const float* gate_b = nullptr;
  const float* mix[kShiftMixMixes] = {};  // (C) each
};

// The sequence that a call works on.
struct ShiftMixSequence {
  std::int64_t tokens = 0;
  const float* x = nullptr;     // (T, C), the residual stream
  const float* m = nullptr;     // (T, K), the taps' factors, or null: 1
  const float* ring = nullptr;  // (K - 1, C), a of the tokens before, oldest first
  const float* prev = nullptr;  // (C), b of the token before
};

// Tokens of one task: short enough that its rows stay in cache.
std::int64_t shift_mix_segment(std::int64_t channels);

// z[i] (T, C) <- the mixes of tokens [first, last), a segment at most.
void shift_mix_forward(const ShiftMixSite& site, const ShiftMixSequence& sequence,
                       std::int64_t first, std::int64_t last, float* const* z);

// The state after the last token: ring (K - 1, C) and prev (C), which may be the sequence's own.
void shift_mix_state(const ShiftMixSite& site, const ShiftMixSequence& sequence, float* ring,
                     float* prev);

// Rows of the parameter gradients that a task leaves, each (C): norm weight, norm bias, gate_x,
// gate_s, gate_b, the mixes, then K taps.
inline constexpr int kShiftMixGradRows = 5 + kShiftMixMixes;
inline std::int64_t shift_mix_grad_rows(const ShiftMixSite& site) {
  return kShiftMixGradRows + site.taps;
}

// Gradients of a sequence's state, ring (K - 1, C) and prev (C). Null: that of the state after the
// last token is zero, that of the state before the first is not wanted.
struct ShiftMixStateGrads {
  const float* ring_after = nullptr;
  const float* prev_after = nullptr;
  float* ring_before = nullptr;  // assigned by the task of token 0
  float* prev_before = nullptr;
};

// dz[i] (T, C), gradients of the mixes -> dx rows [first, last) += the gradient of x; `grads`
// (shift_mix_grad_rows, C) and dm (T, K; rows [first, last); null where m is) are assigned.
void shift_mix_backward(const ShiftMixSite& site, const ShiftMixSequence& sequence,
                        std::int64_t first, std::int64_t last, const float* const* dz, float* dx,
                        float* grads, float* dm, const ShiftMixStateGrads& state = {});

}  // namespace rwkvx
