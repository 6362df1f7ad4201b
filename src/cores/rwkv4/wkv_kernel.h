// The WKV recurrence of RWKV-4 and its adjoint on plain arrays, vectorized over channels.
//
// A state is the pair P, Q of exponentially decayed sums (arXiv 2305.13048, WKV operator). It is
// handed over as rows (p, q, o) with P = p e^o, Q = q e^o; o = -1e30 with p = q = 0 is the start.
// Inside a call P = p 2^n with a whole n per channel: the decay multiplies p, a change of n is
// exact and rare, and so one step costs one exponential however long the sequence and however large
// the keys. In the adjoint the scale cancels: GP is kept as gp 2^-n with the n of the same step.
// A step that changes n, or has a bonus of more than a few powers of ten, takes all its exponents
// together instead, so that any decay w <= 0, -infinity too, and any bonus are right. Keys are
// exact up to about a million; beyond that, as in any float32 form, exponents are right to a few
// units in the key's last place. NaN among the inputs gives NaN, from its token on.
#pragma once

#include <cstdint>

namespace rwkvx {

// Steps between the states that the forward pass keeps for the backward pass.
inline constexpr std::int64_t kWkvSegment = 32;

inline std::int64_t wkv_segments(std::int64_t steps) {
  return (steps + kWkvSegment - 1) / kWkvSegment;
}

// One sequence, channels [first, last) of `channels`. Rows of k, v, r and y are `stride` apart.
template <class Real>
struct WkvForward {
  std::int64_t steps, channels, stride, first, last;
  const Real* w;         // (channels), decay of one step in log space, <= 0
  const Real* u;         // (channels), bonus of the current token in log space
  const Real* k;         // (steps, channels)
  const Real* v;         // (steps, channels)
  const Real* r;         // (steps, channels), or null: then y = wkv
  Real* y;               // (steps, channels) <- sigmoid(r) wkv
  const Real* state_in;  // (3, channels): p, q, o
  Real* state_out;       // (3, channels), may be state_in; or null
  Real* kept;            // (segments, 3, channels) <- p, q, n at each segment's start, or null
};

// Adjoint of WkvForward. Gradients are assigned, not added.
template <class Real>
struct WkvBackward {
  std::int64_t steps, channels, stride, first, last;
  const Real* w;
  const Real* u;
  const Real* k;
  const Real* v;
  const Real* r;               // or null
  const Real* kept;            // what the forward pass kept
  const Real* state_out;       // (3, channels), as the forward pass left it; read with the next
  const Real* grad_y;          // (steps, channels), rows `stride` apart
  const Real* grad_state_out;  // (3, channels) or null: gradients of p, q (that of o is not read)
  Real* grad_k;                // (steps, channels)
  Real* grad_v;                // (steps, channels)
  Real* grad_r;                // (steps, channels), or null where r is
  double* grad_w;              // (channels)
  double* grad_u;              // (channels)
  Real* grad_state_in;         // (3, channels) or null
  const Real* state_in;        // (3, channels), read where grad_state_in is wanted
};

void wkv_forward(const WkvForward<float>& call);
void wkv_forward(const WkvForward<double>& call);
void wkv_backward(const WkvBackward<float>& call);
void wkv_backward(const WkvBackward<double>& call);

}  // namespace rwkvx
