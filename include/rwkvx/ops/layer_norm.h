// Layer norm in LibTorch's operators, with the epsilon that all of RWKV uses.
#pragma once

#include <ATen/core/Tensor.h>

namespace rwkvx {

inline constexpr double kLayerNormEpsilon = 1e-5;

// Its learned tensors, (C) each.
struct NormParameters {
  at::Tensor weight, bias;
};

// x (…, C) -> (…, C).
at::Tensor layer_norm(const at::Tensor& x, const NormParameters& norm);

}  // namespace rwkvx
