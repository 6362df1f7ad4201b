// The WKV recurrence of RWKV-7 and its adjoint on plain arrays: one head of one sequence.
//
// The state is a matrix S (N, N), rows are values, columns are keys. A step is the generalized
// delta rule (arXiv 2503.14456, WKV operator)
//   S_t = S_{t-1} diag(d_t) + (S_{t-1} z_t) b_t^T + v_t k_t^T ;  y_t = S_t r_t
// Rows of the state do not meet, so a few of them at a time are walked through a segment of steps
// within registers or the nearest cache. Sums are taken in an order that depends on N alone:
// cutting a sequence into calls with the state carried over changes no bit. NaN among the inputs
// gives NaN.
#pragma once

#include <cstdint>

namespace rwkvx {

// Steps between the states that the forward pass keeps for the backward pass.
inline constexpr std::int64_t kWkv7Segment = 16;

inline std::int64_t wkv7_segments(std::int64_t steps) {
  return (steps + kWkv7Segment - 1) / kWkv7Segment;
}

// The largest N, which is a multiple of 8.
inline constexpr std::int64_t kWkv7LargestSize = 256;

// Pointers are at the head's first channel; rows of the (steps, N) arrays are `stride` apart.
template <class Real>
struct Wkv7Forward {
  std::int64_t steps, size, stride;  // steps > 0; size: N
  const Real* r;                     // (steps, N), receptance
  const Real* d;                     // (steps, N), decay factor, in (0, 1]
  const Real* k;                     // (steps, N), key
  const Real* v;                     // (steps, N), value
  const Real* z;                     // (steps, N), the removed key, negated: -kappa
  const Real* b;                     // (steps, N), the replacement key: kappa a
  const Real* state_in;              // (N, N) [value][key], or null: zeros
  Real* state_out;                   // (N, N), may be state_in; or null
  Real* y;                           // (steps, N)
  Real* kept;                        // (segments, N, N) <- state at each segment's start, or null
};

// Adjoint of Wkv7Forward. Gradients are assigned, not added; none may be an input.
template <class Real>
struct Wkv7Backward {
  std::int64_t steps, size, stride;
  const Real* r;
  const Real* d;
  const Real* k;
  const Real* v;
  const Real* z;
  const Real* b;
  const Real* kept;            // what the forward pass kept
  const Real* grad_y;          // (steps, N)
  const Real* grad_state_out;  // (N, N) or null
  Real* grad_r;                // (steps, N), as are the next ones
  Real* grad_d;
  Real* grad_k;
  Real* grad_v;
  Real* grad_z;
  Real* grad_b;
  Real* grad_state_in;  // (N, N), may be grad_state_out; or null
  Real* scratch;        // wkv7_backward_scratch(N) numbers
};

std::int64_t wkv7_backward_scratch(std::int64_t size);

void wkv7_forward(const Wkv7Forward<float>& call);
void wkv7_forward(const Wkv7Forward<double>& call);
void wkv7_backward(const Wkv7Backward<float>& call);
void wkv7_backward(const Wkv7Backward<double>& call);

}  // namespace rwkvx
