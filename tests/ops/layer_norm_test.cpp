#include "rwkvx/ops/layer_norm.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "rwkvx/kernels/norm.h"
#include "support/tensors.h"

namespace rwkvx {
namespace {

using test::expect_near_in_norm;

TEST(LayerNorm, EqualsTheFloat64ReferenceInValuesAndGradients) {
  at::manual_seed(1);
  const int64_t T = 19, C = 45;
  const auto x = at::randn({T, C}) * 3 + 1, weight = at::rand({C}) + 0.5, bias = at::randn({C}),
             dy = at::randn({T, C});
  auto y = at::empty({T, C}), dx = at::empty({T, C}), grads = at::empty({2, C});
  layer_norm_forward(x.const_data_ptr<float>(), weight.const_data_ptr<float>(),
                     bias.const_data_ptr<float>(), C, 0, T, y.mutable_data_ptr<float>());
  layer_norm_backward(x.const_data_ptr<float>(), weight.const_data_ptr<float>(),
                      dy.const_data_ptr<float>(), C, 0, T, dx.mutable_data_ptr<float>(),
                      grads.mutable_data_ptr<float>());
  const auto leaf = [](const at::Tensor& t) { return t.to(at::kDouble).requires_grad_(); };
  const auto X = leaf(x), W = leaf(weight), B = leaf(bias);
  const auto Y = layer_norm(X, {W, B});
  const auto wanted = torch::autograd::grad({(Y * dy.to(at::kDouble)).sum()}, {X, W, B});
  expect_near_in_norm(y, Y, 1e-6, "y");
  expect_near_in_norm(dx, wanted[0], 1e-5, "dx");
  expect_near_in_norm(grads[0], wanted[1], 1e-5, "weight");
  expect_near_in_norm(grads[1], wanted[2], 1e-5, "bias");
}

}  // namespace
}  // namespace rwkvx
