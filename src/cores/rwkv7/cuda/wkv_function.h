// RWKV-7's WKV as a differentiable function of the CUDA kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

namespace rwkvx::cuda {

// As rwkvx::wkv7, for a k that takes(k). r, k, v, z, b and y are float32 or bfloat16, the decay and
// the state float32. Head sizes without a kernel go through LibTorch's operators.
std::pair<at::Tensor, at::Tensor> wkv7(const at::Tensor& r, const at::Tensor& d,
                                       const at::Tensor& k, const at::Tensor& v,
                                       const at::Tensor& z, const at::Tensor& b,
                                       const at::Tensor& state);

}  // namespace rwkvx::cuda
