// The elementwise steps between a block's matrix products, and the loss at the end, on plain
// float32 arrays, vectorized.
#pragma once

#include <cstdint>

namespace rwkvx {

// h = relu(k)^2 in place.
void relu_square_forward(float* k, std::int64_t count);
// dk = 2 sqrt(h) dh, over dh: relu(k) is sqrt(h), so k need not be kept.
void relu_square_backward(const float* h, float* dh, std::int64_t count);

// h = tanh(k) and h = sigmoid(k) in place, and their adjoints over dh.
void tanh_forward(float* k, std::int64_t count);
void tanh_backward(const float* h, float* dh, std::int64_t count);
void sigmoid_forward(float* k, std::int64_t count);
void sigmoid_backward(const float* h, float* dh, std::int64_t count);

// y = x + o.
void residual_forward(const float* x, const float* o, float* y, std::int64_t count);
// y = x + sigmoid(r) v.
void gated_residual_forward(const float* x, const float* r, const float* v, float* y,
                            std::int64_t count);
// dv = dy sigmoid(r), dr = dy v sigmoid(r) (1 - sigmoid(r)).
void gated_residual_backward(const float* dy, const float* r, const float* v, float* dr, float* dv,
                             std::int64_t count);

// Cross-entropy of one row of logits (V): returns logsumexp(logits) - logits[target]. Where `scale`
// is not 0, the row becomes its gradient times scale, with l2wrap times the largest logit added at
// that logit (RWKV-LM's L2Wrap).
double cross_entropy_row(float* logits, std::int64_t vocab, std::int64_t target, float scale,
                         float l2wrap);

// Dropout: zeros a share `p` of the numbers and multiplies the others by 1 / (1 - p). Which,
// depends on `key` and on the place of each alone: that of values[0] is `first`.
void dropout_in_place(float* values, std::int64_t first, std::int64_t count, std::uint64_t key,
                      float p);

// y += x.
void add_to(float* y, const float* x, std::int64_t count);

}  // namespace rwkvx
