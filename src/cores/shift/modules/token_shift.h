// Each token's predecessor, across calls.
#pragma once

#include <ATen/core/Tensor.h>

namespace rwkvx {

// x (B, T, C), prev (B, C) = the token before x -> (B, T, C): prev, then all of x but its last.
at::Tensor token_shift(const at::Tensor& x, const at::Tensor& prev);

}  // namespace rwkvx
