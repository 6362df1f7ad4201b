// WKV as a differentiable function of the CUDA kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

namespace rwkvx::cuda {

// As rwkvx::wkv, for a k that takes(k). k, v, r and the result are float32 or bfloat16, the rest is
// float32.
std::pair<at::Tensor, at::Tensor> wkv(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k,
                                      const at::Tensor& v, const at::Tensor& state,
                                      const at::Tensor& r);

}  // namespace rwkvx::cuda
