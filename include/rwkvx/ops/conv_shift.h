// The gated positional shift: a short causal convolution whose taps know the position, and a gate
// that decides per token how much of it is added. Inspired by arXiv 2502.15485.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace rwkvx {

// phi_f(t) of positions t (B) .. t + T - 1, int64: (B, T, F) float64. "exp": exp(-t / tau) for tau
// = 2, 8, 32, 128; "sin": sin and cos of 2 pi t / P for P = 8, 32, 128, 512. Rows that would all be
// equal are given once, as (1, T, F).
at::Tensor position_features(const std::string& form, const at::Tensor& t, int64_t T);

// What one site has learned; undefined tensors are parts that its switches leave out.
struct ConvShiftParameters {
  at::Tensor conv;            // (K, C), row j = lag j; undefined: s_t = a_{t-1}
  at::Tensor pos_u;           // (K, F)
  at::Tensor gate_x, gate_s;  // (C), diag gate
  at::Tensor gate_w;          // (G, C), scalar and group gates
  at::Tensor gate_d, gate_u;  // (R, C) and (C, R), lowrank gate
  at::Tensor gate_b;          // (C), or (G); undefined: the gate is 1
};

// a (B, T, C) -> a + g s (B, T, C), with
//   s_t = sum_j m_j(t) conv[j] a_{t-j},  m_j(t) = 1 + sum_f pos_u[j, f] phi_f(t).
// phi (B or 1, T, F), undefined where pos_u is. ring (B, H, C): the last H inputs of the call
// before, oldest first; replaced by those of this call, as constants. H = K - 1, or 1 without conv.
at::Tensor conv_shift(const at::Tensor& a, const ConvShiftParameters& learned,
                      const at::Tensor& phi, at::Tensor& ring);

// The gate's values of the same call: (B, T, C), or (B, T, G) repeated to (B, T, C).
at::Tensor conv_shift_gate(const at::Tensor& a, const ConvShiftParameters& learned,
                           const at::Tensor& phi, const at::Tensor& ring);

}  // namespace rwkvx
