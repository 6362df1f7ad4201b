// The kernels as differentiable functions: on the GPU for tensors there, and through emulate.h for
// tensors on the processor, which is how they are tested without a GPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

#include "rwkvx/ops/conv_shift.h"

namespace rwkvx::cuda {

// Whether wkv() and shift_mix() of rwkvx/ops send x here: float32 or bfloat16 on a GPU that the
// build has kernels for, or anywhere on the processor while an Emulation lives.
bool takes(const at::Tensor& x);

// For tests: the calling thread's tensors on the processor count as the GPU's.
class Emulation {
 public:
  Emulation();
  ~Emulation();
  Emulation(const Emulation&) = delete;
  Emulation& operator=(const Emulation&) = delete;
};

// As rwkvx::wkv. k, v, r and the result are float32 or bfloat16, the rest is float32.
std::pair<at::Tensor, at::Tensor> wkv(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k,
                                      const at::Tensor& v, const at::Tensor& state,
                                      const at::Tensor& r);

// As rwkvx::shift_mix, with all arithmetic in float32; the results have the type that linear layers
// want on a's device.
std::vector<at::Tensor> shift_mix(const at::Tensor& a, const ConvShiftParameters& learned,
                                  const at::Tensor& phi, const std::vector<at::Tensor>& mixes,
                                  at::Tensor& ring, at::Tensor& prev);

}  // namespace rwkvx::cuda
