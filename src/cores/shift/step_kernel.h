// The shift and the mixes of the engine: a few tokens of a sequence whose state goes on, on plain
// float32 arrays. Works on a range of channels, so that a team can share the work.
#pragma once

#include <cstdint>

#include "cores/shift/mix_kernel.h"
#include "rwkvx/kernels/norm.h"

namespace rwkvx {

// Layer norm, gated positional shift and token-shift mixes of one site; see
// cores/shift/mix_kernel.h for the equations. Null pointers are parts that its switches leave out.
struct ShiftMixWeights {
  std::int64_t channels = 0;
  std::int64_t taps = 0;      // K; 0: no shift
  std::int64_t dilation = 1;  // D, tokens from one tap to the next
  bool silu = false;          // of the sum over the taps
  int mixes = 0;              // 1 to kShiftMixMixes
  bool mix_before = false;
  const float* norm_weight = nullptr;
  const float* norm_bias = nullptr;
  const float* conv = nullptr;    // (K, C)
  const float* gate_x = nullptr;  // (C); all three or none
  const float* gate_s = nullptr;
  const float* gate_b = nullptr;
  const float* mix[kShiftMixMixes] = {};  // (C) each
};

// Consecutive tokens of one sequence.
struct ShiftMixRows {
  std::int64_t tokens = 0;
  const float* x = nullptr;          // (T, C), the residual stream
  const Moments* moments = nullptr;  // (T)
  const float* m = nullptr;          // (T, K), the taps' factors, or null: 1
  const float* gate = nullptr;       // (T, C), gates that were found before, or null
  std::int64_t t = 0;                // position of the first
  float* ring = nullptr;             // (H, C), H = (K - 1) D, a of position t in row t mod H
  float* prev = nullptr;             // (C), what the shift gave for the token before
  float* z[kShiftMixMixes] = {};     // (T, C) each <- the mixes
};
void shift_mix_rows(const ShiftMixWeights& site, const ShiftMixRows& rows, std::int64_t first,
                    std::int64_t last);

}  // namespace rwkvx
