// Batches that are started as a whole; on the CPU with the kernels' bodies.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <memory>

#include "rwkvx/modules/device.h"
#include "support/pass_models.h"
#include "support/tensors.h"

namespace rwkvx {
namespace {

// A model, batches of random tokens for it, and the steps that follow from them.
struct Steps {
  Steps(const ModelConfig& config, const TrainingPassOptions& options)
      : V(config.vocab_size), model(config) {
    disturb(*model);
    model->to(options.place.device);
    for (auto& parameter : model->parameters())
      parameter.mutable_grad() = torch::zeros_like(parameter);
    pass = std::make_unique<TrainingPass>(*model, 2 * 20, 20, options);
  }
  // The loss of B sequences of T tokens, of which the parameters learn.
  double learn(int64_t B, int64_t T, int seed, double scale = 1) {
    const auto [inputs, targets] = draw(B, T, seed);
    const double loss = pass->loss_and_gradients(inputs.const_data_ptr<int64_t>(),
                                                 targets.const_data_ptr<int64_t>(), B, T, scale);
    const torch::NoGradGuard no_grad;
    for (auto& parameter : model->parameters()) {
      parameter.sub_(parameter.grad(), 0.05);
      parameter.mutable_grad().zero_();
    }
    return loss;
  }
  double loss(int64_t B, int64_t T, int seed) {
    const auto [inputs, targets] = draw(B, T, seed);
    return pass->loss(inputs.const_data_ptr<int64_t>(), targets.const_data_ptr<int64_t>(), B, T);
  }
  std::pair<at::Tensor, at::Tensor> draw(int64_t B, int64_t T, int seed) const {
    torch::manual_seed(seed);
    return {torch::randint(V, {B * T}, torch::kInt64), torch::randint(V, {B * T}, torch::kInt64)};
  }
  int64_t V;
  Rwkv model;
  std::unique_ptr<TrainingPass> pass;
};

void check_graphs(c10::Device device, double tolerance) {
  for (const char* core : {"rwkv4", "rwkv7"}) {
    SCOPED_TRACE(core);
    auto options = on_device();
    options.place.device = device;
    const auto config = config_of("{}", {2, 20, 64, 29}, core);
    Steps wanted(config, options);
    options.graph = true;
    Steps found(config, options);
    int seed = 0;
    const auto learn = [&](int64_t B, int64_t T, double scale, std::int64_t graphs) {
      SCOPED_TRACE(++seed);
      const double loss = wanted.learn(B, T, seed, scale);
      EXPECT_NEAR(found.learn(B, T, seed, scale), loss, tolerance * loss);
      EXPECT_EQ(found.pass->graphs_started(), graphs);
    };
    learn(2, 20, 1, 0), learn(2, 20, 1, 0);
    learn(2, 20, 1, 1), learn(2, 20, 1, 2);
    // Other batches go between, and leave the graph what it needs.
    EXPECT_NEAR(found.loss(2, 11, 99), wanted.loss(2, 11, 99), tolerance * 10);
    learn(1, 20, 1, 2), learn(2, 13, 1, 2), learn(2, 20, 0.5, 2);
    learn(2, 20, 1, 3);
    // Another form that stays gets a graph in place of the first one's.
    learn(2, 13, 1, 3), learn(2, 13, 1, 3), learn(2, 13, 1, 4), learn(2, 20, 1, 4);
    learn(2, 13, 1, 5);
    // Parameters that lie elsewhere are not those that were recorded.
    for (auto& parameter : found.model->parameters()) {
      const torch::NoGradGuard no_grad;
      parameter.set_data(parameter.detach().clone());
    }
    learn(2, 13, 1, 5), learn(2, 13, 1, 5), learn(2, 13, 1, 6);
    const auto all = wanted.model->named_parameters();
    for (const auto& item : found.model->named_parameters())
      test::expect_near_in_norm(item.value().detach().cpu(), all[item.key()].detach().cpu(),
                                tolerance, item.key());
  }
}

TEST(TrainingPass, BatchesOfOneFormAreStartedAsAWhole) { check_graphs(at::kCPU, 0); }

TEST(CudaTrainingPass, BatchesOfOneFormAreStartedAsAWholeOnTheGpu) {
  const auto device = find_device("auto", "test");
  if (device.is_cpu()) GTEST_SKIP() << "no GPU that this build has kernels for";
  check_graphs(device, 1e-5);
}

TEST(TrainingPass, WhatChangesWithABatchIsNotRecorded) {
  auto options = on_device();
  options.graph = true;
  Steps steps(config_of("{}", {2, 20, 16, 29}), options);
  const auto [inputs, targets] = steps.draw(2, 20, 1);
  const std::vector<float> weights(40, 1);
  auto batch = TrainingBatch::of_rows(inputs.const_data_ptr<int64_t>(),
                                      targets.const_data_ptr<int64_t>(), 2, 20);
  auto weighted = batch, dropped = batch, stated = batch;
  weighted.weights = weights.data();
  dropped.dropout = 0.1;
  auto after = steps.model->start(2);
  stated.states.after = &after;
  for (const auto* one : {&weighted, &dropped, &stated})
    for (int i = 0; i < 4; ++i) steps.pass->loss_and_gradients(*one, 1);
  for (int i = 0; i < 4; ++i) steps.pass->loss_and_gradients(batch, 1, [](std::int64_t) {});
  EXPECT_EQ(steps.pass->graphs_started(), 0);
}

}  // namespace
}  // namespace rwkvx
