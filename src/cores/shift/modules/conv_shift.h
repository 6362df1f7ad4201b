// The gated positional shift in LibTorch's operators: the reference.
#pragma once

#include <ATen/core/Tensor.h>

#include "rwkvx/modules/shift.h"

namespace rwkvx {

// a (B, T, C) -> a + g s (B, T, C), with
//   s_t = sum_j m_j(t) conv[j] a_{t-jD},  m_j(t) = 1 + sum_f pos_u[j, f] phi_f(t),
// D = learned.dilation, and SiLU of that sum where learned.silu.
// phi (B or 1, T, F), undefined where pos_u is. ring (B, H, C): the last H inputs of the call
// before, oldest first; replaced by those of this call, as constants. H = (K - 1) D, or 1 without
// conv.
at::Tensor conv_shift(const at::Tensor& a, const ShiftParameters& learned, const at::Tensor& phi,
                      at::Tensor& ring);

// The gate's values of the same call: (B, T, C).
at::Tensor conv_shift_gate(const at::Tensor& a, const ShiftParameters& learned,
                           const at::Tensor& phi, const at::Tensor& ring);

// The argument of its logistic, for a form that has one: (B, T, C), or (B, T, G) for G groups of
// channels. s (B, T, C) is the convolution of a.
at::Tensor gate_logits(const at::Tensor& a, const at::Tensor& s, const ShiftParameters& learned);

}  // namespace rwkvx
