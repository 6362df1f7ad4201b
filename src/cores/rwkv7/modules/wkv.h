// WKV of RWKV-7: a matrix per head that decays, is corrected along one key and written along
// another.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

namespace rwkvx {

// r receptance, d decay factor of one step in (0, 1], k key, v value, z = -kappa, b = kappa a, each
// (B, T, H, N); state (B, H, N, N), rows are values, columns are keys -> y (B, T, H, N) and the
// state after the last token (B, H, N, N). Per head
//   S_t = S_{t-1} diag(d_t) + (S_{t-1} z_t) b_t^T + v_t k_t^T ;  y_t = S_t r_t
// Differentiable in all inputs, the state included. float32 or float64; on a GPU r, k, v, z, b may
// be bfloat16 beside a float32 decay and state. arXiv 2503.14456, WKV operator.
std::pair<at::Tensor, at::Tensor> wkv7(const at::Tensor& r, const at::Tensor& d,
                                       const at::Tensor& k, const at::Tensor& v,
                                       const at::Tensor& z, const at::Tensor& b,
                                       const at::Tensor& state);

// The same, one token at a time: the formula itself, with LibTorch's own gradients.
std::pair<at::Tensor, at::Tensor> wkv7_reference(const at::Tensor& r, const at::Tensor& d,
                                                 const at::Tensor& k, const at::Tensor& v,
                                                 const at::Tensor& z, const at::Tensor& b,
                                                 const at::Tensor& state);

}  // namespace rwkvx
