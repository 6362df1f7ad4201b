// WKV: RWKV-4's weighted average over the past, with a bonus for the current token.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

namespace rwkvx {

// The state before the first token: (B, 3, C), rows p = q = 0 and o = -1e30. The sums it stands for
// are P = p e^o and Q = q e^o.
at::Tensor wkv_start(int64_t B, int64_t C, const at::TensorOptions& options);

// w decay of one step in log space, <= 0 (C); u bonus in log space (C); k, v (B, T, C);
// state (B, 3, C) -> wkv (B, T, C) and the state after the last token (B, 3, C).
// With r (B, T, C) defined the result is sigmoid(r) wkv. Differentiable in all inputs, the state
// included; the gradient of the returned state must come from a use of e^o p and e^o q only, as
// that of a following wkv does. float32 or float64; on a GPU k, v, r may be bfloat16 beside a
// float32 state. arXiv 2305.13048, WKV operator.
std::pair<at::Tensor, at::Tensor> wkv(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k,
                                      const at::Tensor& v, const at::Tensor& state,
                                      const at::Tensor& r = {});

// The same, one token at a time: the formula itself, with LibTorch's own gradients.
std::pair<at::Tensor, at::Tensor> wkv_reference(const at::Tensor& w, const at::Tensor& u,
                                                const at::Tensor& k, const at::Tensor& v,
                                                const at::Tensor& state, const at::Tensor& r = {});

}  // namespace rwkvx
