// All of a token that is not a matrix product, on plain float32 arrays, vectorised over channels.
// Every function works on a range of channels, so that a team can share the work.
#pragma once

#include <cstdint>

namespace rwkvx {

// Mean and 1 / standard deviation of a row, for its layer norm.
struct Moments {
  float mean, scale;
};
Moments row_moments(const float* x, std::int64_t channels);

// y[c] <- (x[c] - mean) scale weight[c] + bias[c] for c in [first, last).
void normalise(const float* x, Moments moments, const float* weight, const float* bias,
               std::int64_t first, std::int64_t last, float* y);

// Layer norm, gated positional shift and token-shift mixes of one site; see ops/shift_mix_kernel.h
// for the equations. Null pointers are parts that its switches leave out.
struct ShiftMixWeights {
  std::int64_t channels = 0;
  std::int64_t taps = 0;  // K; 0: no shift
  int mixes = 0;          // 2 or 3
  const float* norm_weight = nullptr;
  const float* norm_bias = nullptr;
  const float* conv = nullptr;    // (K, C)
  const float* gate_x = nullptr;  // (C); all three or none
  const float* gate_s = nullptr;
  const float* gate_b = nullptr;
  const float* mix[3] = {};  // (C) each
};

// Consecutive tokens of one sequence.
struct ShiftMixRows {
  std::int64_t tokens = 0;
  const float* x = nullptr;          // (T, C), the residual stream
  const Moments* moments = nullptr;  // (T)
  const float* m = nullptr;          // (T, K), the taps' factors, or null: 1
  const float* gate = nullptr;       // (T, C), gates that were found before, or null
  std::int64_t t = 0;                // position of the first
  float* ring = nullptr;             // (K - 1, C), a of position t in row t mod (K - 1)
  float* prev = nullptr;             // (C), what the shift gave for the token before
  float* z[3] = {};                  // (T, C) each <- the mixes
};
void shift_mix_rows(const ShiftMixWeights& site, const ShiftMixRows& rows, std::int64_t first,
                    std::int64_t last);

// The recurrence over T tokens: y <- sigmoid(r) wkv; k, v, r, y are (T, channels), state (3,
// channels) has the rows p, q, o. Any decay and bonus.
struct WkvRows {
  std::int64_t tokens = 0, channels = 0;
  const float* w = nullptr;  // (channels), decay of one step in log space
  const float* u = nullptr;  // (channels), bonus in log space
  const float* k = nullptr;
  const float* v = nullptr;
  const float* r = nullptr;
  float* state = nullptr;
  float* y = nullptr;
};
void wkv_rows(const WkvRows& call, std::int64_t first, std::int64_t last);

// x[c] <- max(x[c], 0)^2.
void relu_square(float* x, std::int64_t first, std::int64_t last);
// x[c] += y[c], and x[c] += sigmoid(r[c]) y[c].
void add_rows(float* x, const float* y, std::int64_t first, std::int64_t last);
void add_gated(float* x, const float* r, const float* y, std::int64_t first, std::int64_t last);

}  // namespace rwkvx
