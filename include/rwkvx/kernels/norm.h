// Layer norm on plain float32 arrays, vectorized over channels: whole, of a range of channels, and
// its adjoint.
#pragma once

#include <cstdint>

namespace rwkvx {

// Mean and 1 / standard deviation of a row, for its layer norm.
struct Moments {
  float mean, scale;
};
Moments row_moments(const float* x, std::int64_t channels);

// y[c] <- (x[c] - mean) scale weight[c] + bias[c] for c in [first, last).
void normalize(const float* x, Moments moments, const float* weight, const float* bias,
               std::int64_t first, std::int64_t last, float* y);

// y rows [first, last) of (T, C) <- the layer norm of x's.
void layer_norm_forward(const float* x, const float* weight, const float* bias,
                        std::int64_t channels, std::int64_t first, std::int64_t last, float* y);
// The adjoint: dx is assigned and may be dy; `grads` (2, C), of weight and bias, are assigned.
void layer_norm_backward(const float* x, const float* weight, const float* dy,
                         std::int64_t channels, std::int64_t first, std::int64_t last, float* dx,
                         float* grads);

}  // namespace rwkvx
