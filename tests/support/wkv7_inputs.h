// Inputs of RWKV-7's WKV as trained heads have them, and its outputs with all gradients.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

namespace rwkvx::test {

using Tensors = std::vector<at::Tensor>;

// r, d, k, v, z, b, state, then the gradients of y and of the state after the last token.
inline Tensors wkv7_inputs(int64_t B, int64_t T, int64_t H, int64_t N) {
  auto kappa = at::randn({B, T, H, N});
  kappa = kappa / kappa.norm(2, -1, true);
  return {at::randn({B, T, H, N}),
          at::exp(-0.60653065971263342 * at::sigmoid(at::randn({B, T, H, N}) * 3)),
          at::randn({B, T, H, N}) * 0.5,
          at::randn({B, T, H, N}),
          -kappa,
          kappa * at::sigmoid(at::randn({B, T, H, N})),
          at::randn({B, H, N, N}) * 0.5,
          at::randn({B, T, H, N}),
          at::randn({B, H, N, N}) * 0.5};
}

// y, the state, and the gradients of all inputs.
inline constexpr const char* wkv7_names[] = {"y",      "state_out", "grad_r", "grad_d",    "grad_k",
                                             "grad_v", "grad_z",    "grad_b", "grad_state"};
template <class Wkv7>
Tensors wkv7_outcome(const Wkv7& wkv7, const Tensors& in, const at::TensorOptions& options) {
  Tensors x;
  for (int i = 0; i < 7; ++i) x.push_back(in[i].detach().to(options).clone().requires_grad_());
  const auto [y, state] = wkv7(x[0], x[1], x[2], x[3], x[4], x[5], x[6]);
  Tensors all{y.detach(), state.detach()};
  const auto loss = (y * in[7].to(options)).sum() + (state * in[8].to(options)).sum();
  for (const auto& grad : torch::autograd::grad({loss}, x)) all.push_back(grad);
  for (auto& one : all) one = one.cpu();
  return all;
}

}  // namespace rwkvx::test
