// The way through the modules that a GPU takes, with the CUDA kernels' bodies on the processor.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/function.h>
#include <torch/types.h>

#include <set>

#include "rwkvx/model/rwkv.h"
#include "rwkvx/ops/cuda/call.h"
#include "rwkvx/ops/precision.h"
#include "support/tensors.h"

namespace rwkvx {
namespace {

using test::expect_near_in_norm;

Rwkv make_model(Gate gate, ShiftKind kind) {
  ModelConfig config;
  config.n_layer = 2, config.n_embd = 16, config.vocab_size = 40;
  config.shift.kind = kind;
  config.shift.gate = gate;
  Rwkv model(config);
  model->initialize(/*seed=*/1, /*embedding_range=*/0.5);
  at::manual_seed(4);
  for (auto& item : model->named_parameters()) {  // so that no gradient is zero
    const torch::NoGradGuard no_grad;
    item.value().add_(at::randn_like(item.value()) * 0.1);
  }
  return model;
}

// The loss, then the gradient of every parameter.
std::vector<at::Tensor> gradients(Rwkv& model) {
  at::manual_seed(6);
  const auto tokens = at::randint(40, {2, 41}, at::kLong);
  auto state = model->start(2);
  const auto logits = model->forward(tokens.slice(1, 0, 40), state);
  const auto loss = at::cross_entropy_loss(logits.to(at::kFloat).view({80, 40}),
                                           tokens.slice(1, 1).reshape({80}));
  model->zero_grad();
  loss.backward();
  std::vector<at::Tensor> all{loss.detach()};
  for (const auto& item : model->named_parameters()) {
    EXPECT_EQ(item.value().grad().scalar_type(), at::kFloat) << item.key();
    all.push_back(item.value().grad().clone());
  }
  return all;
}

TEST(CudaPath, GivesTheModulesLossAndGradients) {
  constexpr auto kShift = ShiftKind::kGatedPositional;
  for (const auto& [gate, kind] :
       {std::pair{Gate::kDiag, kShift}, std::pair{Gate::kGroup, kShift},
        std::pair{Gate::kLowrank, kShift}, std::pair{Gate::kOne, ShiftKind::kNone}}) {
    auto model = make_model(gate, kind);
    const auto wanted = gradients(model);
    const cuda::Emulation emulation;
    const auto found = gradients(model);
    for (std::size_t i = 0; i < found.size(); ++i)
      expect_near_in_norm(found[i], wanted[i], 2e-5, enum_name(gate) + " " + std::to_string(i),
                          1e-9);
  }
}

TEST(CudaPath, InMixedPrecisionStaysNearIt) {
  auto model = make_model(Gate::kDiag, ShiftKind::kGatedPositional);
  const auto wanted = gradients(model);
  const cuda::Emulation emulation;
  const MixedPrecision mixed(at::kCPU, /*everywhere=*/true);
  const auto found = gradients(model);
  expect_near_in_norm(found[0], wanted[0], 5e-3, "loss");
  for (std::size_t i = 1; i < found.size(); ++i)
    expect_near_in_norm(found[i], wanted[i], 0.1, std::to_string(i));
}

// What of a forward pass has the width of the channel mix is bfloat16, and nothing is on the list
// of operators that autocast takes to float32 on a GPU (the processor's list is shorter, so that
// their types cannot be seen here).
TEST(CudaPath, TheChannelMixStaysInBfloat16) {
  auto model = make_model(Gate::kDiag, ShiftKind::kGatedPositional);
  const auto F = model->config().ffn_channels();
  const cuda::Emulation emulation;
  const MixedPrecision mixed(at::kCPU, /*everywhere=*/true);
  auto state = model->start(2);
  const auto logits = model->forward(at::randint(40, {2, 9}, at::kLong), state);
  std::vector<torch::autograd::Node*> open{logits.grad_fn().get()};
  std::set<torch::autograd::Node*> seen(open.begin(), open.end());
  int wide = 0;
  while (!open.empty()) {
    auto* node = open.back();
    open.pop_back();
    EXPECT_EQ(node->name().find("Pow"), std::string::npos) << node->name();
    EXPECT_EQ(node->name().find("Square"), std::string::npos) << node->name();
    for (uint32_t i = 0; i < node->num_inputs(); ++i) {
      const auto shape = node->input_metadata(i).shape_as_dim_vector();
      if (shape.size() != 3 || shape[2] != F) continue;
      ++wide;
      EXPECT_EQ(node->input_metadata(i).dtype().toScalarType(), at::kBFloat16) << node->name();
    }
    for (const auto& edge : node->next_edges())
      if (edge.function != nullptr && seen.insert(edge.function.get()).second)
        open.push_back(edge.function.get());
  }
  EXPECT_GE(wide, 3 * 2);  // key, relu and product of two blocks
}

TEST(CudaPath, OneTokenAtATimeEqualsTheWholeSequence) {
  const torch::NoGradGuard no_grad;
  auto model = make_model(Gate::kDiag, ShiftKind::kGatedPositional);
  const auto tokens = at::randint(40, {2, 37}, at::kLong);
  auto state = model->start(2);
  const auto wanted = model->forward(tokens, state);
  const cuda::Emulation emulation;
  auto step_state = model->start(2);
  std::vector<at::Tensor> parts;
  for (int64_t t = 0; t < 37; ++t)
    parts.push_back(model->forward(tokens.slice(1, t, t + 1), step_state));
  expect_near_in_norm(at::cat(parts, 1), wanted, 1e-5);
}

}  // namespace
}  // namespace rwkvx
