// From a mixer's normalized input to the inputs of its linear layers: the gated positional shift
// (conv_shift.h), then the token shift's mixes of each token with its predecessor.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "rwkvx/modules/shift.h"

namespace rwkvx {

// a (B, T, C) -> z_i (B, T, C) for each mix_i (C or 1, 1, C):
//   b_t = a_t + g_t s_t (conv_shift; b = a where ring is undefined),
//   z_i,t = b_{t-1} + (b_t - b_{t-1}) mix_i.
// prev (B, C) is b of the token before, replaced by the last one; ring (B, H, C) likewise holds a.
// Both are constants to the gradient. On a GPU this is one kernel of our own, and its results have
// the type that linear layers want there.
std::vector<at::Tensor> shift_mix(const at::Tensor& a, const ShiftParameters& learned,
                                  const at::Tensor& phi, const std::vector<at::Tensor>& mixes,
                                  at::Tensor& ring, at::Tensor& prev);

}  // namespace rwkvx
