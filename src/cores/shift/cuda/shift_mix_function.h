// The shift and the mixes as a differentiable function of the CUDA kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "rwkvx/modules/shift.h"

namespace rwkvx::cuda {

// As rwkvx::shift_mix, for an a that takes(a), with all arithmetic in float32; the results have the
// type that linear layers want on a's device.
std::vector<at::Tensor> shift_mix(const at::Tensor& a, const ShiftParameters& learned,
                                  const at::Tensor& phi, const std::vector<at::Tensor>& mixes,
                                  at::Tensor& ring, at::Tensor& prev);

}  // namespace rwkvx::cuda
