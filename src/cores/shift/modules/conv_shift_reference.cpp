#include <ATen/ATen.h>

#include "cores/shift/gate_forms.h"
#include "cores/shift/modules/conv_shift.h"
#include "cores/shift/modules/token_shift.h"

namespace rwkvx {
namespace {

// s (B, T, C), the convolution of ring and a.
at::Tensor shifted(const at::Tensor& a, const ShiftParameters& learned, const at::Tensor& phi,
                   const at::Tensor& ring) {
  const int64_t T = a.size(1), H = ring.size(1);
  const auto past = at::cat({ring, a}, /*dim=*/1);  // (B, H + T, C)
  if (!learned.conv.defined()) return past.slice(1, 0, T);
  const int64_t K = learned.conv.size(0);
  const int64_t D = learned.dilation;
  TORCH_CHECK(H == (K - 1) * D, "conv_shift: ring must hold ", (K - 1) * D, " rows, got ", H);
  at::Tensor m;  // (B or 1, T, K)
  if (learned.pos_u.defined()) m = 1 + at::matmul(phi.to(a.dtype()), learned.pos_u.t());
  at::Tensor s;
  for (int64_t j = 0; j < K; ++j) {
    auto term = past.slice(1, H - j * D, H - j * D + T) * learned.conv[j];  // (B, T, C)
    if (m.defined()) term = term * m.slice(2, j, j + 1);
    s = j == 0 ? term : s + term;
  }
  return learned.silu ? at::silu(s) : s;
}

// g (B, T, C); undefined where the gate is always open.
at::Tensor gate(const at::Tensor& a, const at::Tensor& s, const ShiftParameters& learned) {
  if (learned.form->always_open()) return {};
  const auto g = at::sigmoid(gate_logits(a, s, learned));  // (B, T, C) or (B, T, G)
  const int64_t C = a.size(2), G = g.size(2);
  return G == C ? g : g.repeat_interleave(C / G, /*dim=*/2);
}

}  // namespace

at::Tensor gate_logits(const at::Tensor& a, const at::Tensor& s, const ShiftParameters& learned) {
  const auto& of = learned.gate;
  if (learned.form->elementwise) return of[0] * a + of[1] * s + of[2];
  auto x = a;
  for (size_t i = 0; i + 1 < of.size(); ++i) x = at::matmul(x, of[i].t());
  return x + of.back();
}

at::Tensor token_shift(const at::Tensor& x, const at::Tensor& prev) {
  TORCH_CHECK(x.dim() == 3 && prev.sizes() == at::IntArrayRef({x.size(0), x.size(2)}),
              "token_shift: x is ", x.sizes(), " (B, T, C), so prev must be (B, C), got ",
              prev.sizes());
  return at::cat({prev.unsqueeze(1), x.slice(/*dim=*/1, 0, x.size(1) - 1)}, /*dim=*/1);
}

at::Tensor conv_shift(const at::Tensor& a, const ShiftParameters& learned, const at::Tensor& phi,
                      at::Tensor& ring) {
  const auto s = shifted(a, learned, phi, ring);  // (B, T, C)
  const auto g = gate(a, s, learned);             // (B, T, C)
  const int64_t T = a.size(1), H = ring.size(1);
  const auto last = at::cat({ring, a}, /*dim=*/1).slice(1, T, T + H);
  ring = last.clone(at::MemoryFormat::Contiguous);
  return a + (g.defined() ? g * s : s);
}

at::Tensor conv_shift_gate(const at::Tensor& a, const ShiftParameters& learned,
                           const at::Tensor& phi, const at::Tensor& ring) {
  const auto g = gate(a, shifted(a, learned, phi, ring), learned);
  return g.defined() ? g : at::ones_like(a);
}

}  // namespace rwkvx
