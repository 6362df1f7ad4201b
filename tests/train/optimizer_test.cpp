#include "rwkvx/train/optimizer.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "rwkvx/model/rwkv.h"
#include "support/kernel_bodies.h"
#include "train/ema.h"
#include "train/newton_schulz.h"

namespace rwkvx {
namespace {

ModelConfig small_model() {
  ModelConfig model;
  model.n_layer = 2;
  model.n_embd = 16;
  model.vocab_size = 40;
  return model;
}

TEST(Optimizer, LeavesFrozenParametersAloneAndKeepsNothingOfThem) {
  const torch::NoGradGuard no_grad;
  Rwkv model(small_model());
  model->initialize(1, 1e-3);
  std::map<std::string, at::Tensor> before;
  for (const auto& item : model->named_parameters()) before[item.key()] = item.value().clone();
  const auto* place = model->named_parameters()["head.weight"].const_data_ptr<float>();
  const auto trained = [](const ParameterRow& row) { return row.of_shift(); };
  Optimizer optimizer(*model, {}, trained);
  EXPECT_EQ(model->named_parameters()["head.weight"].const_data_ptr<float>(), place);
  std::size_t count = 0;
  for (const auto& row : describe_parameters(model->config())) {
    auto gradient = model->named_parameters()[row.name].grad();
    EXPECT_EQ(gradient.defined(), trained(row)) << row.name;
    EXPECT_EQ(model->named_parameters()[row.name].requires_grad(), trained(row)) << row.name;
    if (!gradient.defined()) continue;
    gradient.fill_(0.5);
    ++count;
  }
  ASSERT_GT(count, 0u);
  const auto moments = optimizer.moments();
  EXPECT_EQ(moments.size(), 2 * count);
  for (const auto& [name, tensor] : moments) EXPECT_NE(name.find(".shift."), std::string::npos);
  optimizer.step(1e-2, optimizer.grad_norm());
  EXPECT_EQ(optimizer.first_not_finite(), "");
  for (const auto& row : describe_parameters(model->config()))
    EXPECT_EQ(torch::equal(model->named_parameters()[row.name], before[row.name]), !trained(row))
        << row.name;
}

TEST(Optimizer, TrainsTensorsThatAreNoParametersOfTheModel) {
  const torch::NoGradGuard no_grad;
  Rwkv model(small_model());
  model->initialize(1, 1e-3);
  auto a = torch::ones({3, 5}), b = torch::ones({7});
  const auto none = [](const ParameterRow&) { return false; };
  TrainingConfig config;
  Optimizer optimizer(*model, config, none, {{"a", a, 2, 0.5}, {"b", b}});
  const auto moments = optimizer.moments();
  ASSERT_EQ(moments.size(), 6u);
  EXPECT_EQ(moments[0].first, "m.a");
  EXPECT_EQ(moments[3].first, "v.b");
  EXPECT_EQ(moments[0].second.sizes(), a.sizes());
  a.mutable_grad().fill_(0.25);
  b.mutable_grad().fill_(-0.25);
  EXPECT_NEAR(optimizer.grad_norm(), 0.25 * std::sqrt(22), 1e-6);
  optimizer.step(0.1, 0);  // the first step of Adam goes as far as the rate, the decay besides
  EXPECT_TRUE(torch::allclose(a, torch::full_like(a, 1 - 0.1 * 2 * 0.5 - 0.1 * 2)));
  EXPECT_TRUE(torch::allclose(b, torch::full_like(b, 1.1)));
  EXPECT_EQ(a.grad().abs().sum().item<double>(), 0);
  b[2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(optimizer.first_not_finite(), "parameter b");
}

// With a device's kernels, whose bodies run on the CPU.
TEST(Optimizer, AStepThatNobodyWaitsForIsTheSame) {
  const KernelBodies bodies("f32");
  const torch::NoGradGuard no_grad;
  TrainingConfig config;
  config.grad_clip = 0.3;
  const auto none = [](const ParameterRow&) { return false; };
  Rwkv one(small_model()), other(small_model());
  auto a = torch::ones({3, 5}), b = torch::ones({3, 5}),
       copy = torch::ones({3, 5}, torch::kBFloat16);
  Optimizer waiting(*one, config, none, {{"a", a}}), later(*other, config, none, {{"a", b}});
  ASSERT_TRUE(waiting.steps_unread());
  ASSERT_TRUE(later.keep_copy(b, copy));
  EXPECT_FALSE(later.keep_copy(a, copy)) << "of another optimizer";
  for (int step = 0; step < 4; ++step) {
    torch::manual_seed(step);
    const auto gradient = torch::randn({3, 5});
    a.mutable_grad().copy_(gradient), b.mutable_grad().copy_(gradient);
    const double norm = waiting.grad_norm();
    waiting.step(1e-2, norm);
    EXPECT_NEAR(later.step_unread(1e-2, torch::tensor(2.0)).item<double>(), norm, 1e-6 * norm);
    EXPECT_TRUE(torch::allclose(a, b, 1e-6, 1e-7));
    EXPECT_TRUE(torch::equal(copy, b.to(torch::kBFloat16)));
    EXPECT_EQ(b.grad().abs().sum().item<double>(), 0);
  }
  b.fill_(0.3);
  later.values_changed();
  EXPECT_TRUE(torch::equal(copy, b.to(torch::kBFloat16)));
}

TEST(Optimizer, WhereALossIsNotFiniteNoLaterStepChangesAnything) {
  const KernelBodies bodies("f32");
  const torch::NoGradGuard no_grad;
  const auto none = [](const ParameterRow&) { return false; };
  const auto nan = torch::tensor(std::numeric_limits<double>::quiet_NaN());
  const auto infinite = torch::tensor(std::numeric_limits<double>::infinity());
  for (const auto& bad : {nan, infinite, at::Tensor()}) {
    Rwkv model(small_model());
    auto a = torch::ones({3, 5});
    Optimizer optimizer(*model, TrainingConfig(), none, {{"a", a}});
    a.mutable_grad().fill_(0.5);
    optimizer.step_unread(1e-2, torch::tensor(2.0));
    EXPECT_NE(a[0][0].item<float>(), 1);
    const auto before = a.clone();
    a.mutable_grad().fill_(0.5);
    if (!bad.defined()) a.mutable_grad()[1][1] = std::numeric_limits<float>::infinity();
    optimizer.step_unread(1e-2, bad.defined() ? bad : torch::tensor(2.0));
    EXPECT_EQ(a.grad()[0][0].item<float>(), 0.5f) << "gradients are left to be looked at";
    a.mutable_grad().fill_(0.5);
    optimizer.step_unread(1e-2, torch::tensor(2.0));
    EXPECT_TRUE(torch::equal(a, before));
  }
}

// Gradients that depend on the step alone; those of a step are the same for every optimizer.
void fill_gradients(RwkvImpl& model, int step) {
  for (auto& item : model.named_parameters()) {
    auto& parameter = item.value();
    torch::manual_seed(step);
    parameter.mutable_grad().copy_(torch::randn(parameter.sizes()) * 0.01);
  }
}

std::map<std::string, at::Tensor> stepped(const TrainingConfig& config, int steps,
                                          std::size_t* bytes = nullptr) {
  const torch::NoGradGuard no_grad;
  auto sizes = small_model();
  sizes.n_embd = 64;
  Rwkv model(sizes);
  // Not its own initial values: LAPACK's orthogonal ones depend on the number of threads.
  torch::manual_seed(0);
  for (auto& item : model->named_parameters())
    item.value().copy_(torch::randn(item.value().sizes()) * 0.05);
  Optimizer optimizer(*model, config);
  for (int step = 1; step <= steps; ++step) {
    fill_gradients(*model, step);
    optimizer.step(1e-3, optimizer.grad_norm());
  }
  EXPECT_EQ(optimizer.first_not_finite(), "");
  std::map<std::string, at::Tensor> all;
  for (const auto& item : model->named_parameters()) all[item.key()] = item.value().clone();
  for (const auto& [name, tensor] : optimizer.moments()) {
    all[name] = tensor.clone();
    if (bytes != nullptr) *bytes += tensor.nbytes();
  }
  return all;
}

TEST(Muon, MovesTheMatricesOfTheBlocksAlongTheOrthogonalizedMomentum) {
  TrainingConfig config;
  config.optimizer = OptimizerKind::kMuon;
  config.grad_clip = 0;
  config.weight_decay = 0.1;
  const auto zero = stepped(config, 0), found = stepped(config, 3);
  TrainingConfig adamw = config;
  adamw.optimizer = OptimizerKind::kAdamw;
  const auto plain = stepped(adamw, 3);
  auto sizes = small_model();
  sizes.n_embd = 64;
  int matrices = 0;
  for (const auto& row : describe_parameters(sizes)) {
    if (!(row.matrix && row.name.starts_with("blocks."))) {
      EXPECT_TRUE(torch::equal(found.at(row.name), plain.at(row.name))) << row.name;
      EXPECT_TRUE(found.contains("m." + row.name));
      continue;
    }
    ++matrices;
    EXPECT_FALSE(found.contains("m." + row.name));
    auto x = zero.at(row.name).to(torch::kFloat64), m = torch::zeros_like(x);
    for (int step = 1; step <= 3; ++step) {
      torch::manual_seed(step);
      const auto g = (torch::randn(x.sizes()) * 0.01).to(torch::kFloat64);
      m = 0.95 * m + g;
      const double rate = 1e-3 * learning_rate_scale(row, config);
      x = x * (1 - rate * weight_decay_of(row, config)) -
          rate * 0.2 * std::sqrt(std::max(x.size(0), x.size(1))) * orthogonalized(g + 0.95 * m);
    }
    EXPECT_LT((found.at(row.name) - x).abs().max().item<double>(), 2e-5) << row.name;
    EXPECT_LT((found.at("momentum." + row.name) - m).abs().max().item<double>(), 1e-7);
  }
  EXPECT_GE(matrices, 12);
}

void expect_same_bits(const TrainingConfig& config) {
  const auto threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto one = stepped(config, 3);
  at::set_num_threads(2);
  const auto two = stepped(config, 3);
  at::set_num_threads(threads);
  ASSERT_EQ(one.size(), two.size());
  for (const auto& [name, tensor] : one) EXPECT_TRUE(torch::equal(tensor, two.at(name))) << name;
}

TEST(Optimizer, DoesNotDependOnTheNumberOfThreads) {
  for (const auto kind : {OptimizerKind::kAdamw, OptimizerKind::kMuon})
    for (const auto moments : {MomentType::kF32, MomentType::kInt8}) {
      TrainingConfig config;
      config.optimizer = kind;
      config.moments = moments;
      expect_same_bits(config);
    }
}

TEST(Moments, InEightBitsTakeAQuarterAndStepAlike) {
  TrainingConfig config;
  std::size_t wide = 0, narrow = 0;
  const auto zero = stepped(config, 0);
  const auto a = stepped(config, 30, &wide);
  config.moments = MomentType::kInt8;
  const auto b = stepped(config, 30, &narrow);
  // The matrices of 64 x 64 and more; the vectors stay.
  EXPECT_LT(static_cast<double>(narrow), 0.35 * static_cast<double>(wide));
  for (const char* name : {"blocks.0.att.key.weight", "blocks.1.ffn.value.weight"}) {
    const auto way = (a.at(name) - zero.at(name)).norm().item<double>();
    EXPECT_LT((a.at(name) - b.at(name)).norm().item<double>(), 0.1 * way) << name;
    EXPECT_TRUE(b.contains("v8_scale." + std::string(name)));
  }
  const char* vector = "blocks.0.ln1.weight";
  EXPECT_TRUE(torch::equal(a.at(vector), b.at(vector)));
}

TEST(Ema, FollowsTheWeightsAndIsExchangedExactly) {
  const torch::NoGradGuard no_grad;
  TrainingConfig config;
  config.ema_decay = 0.5;
  Rwkv model(small_model());
  model->initialize(1, 1e-3);
  Optimizer optimizer(*model, config);
  auto weight = [&] { return model->named_parameters()["head.weight"]; };
  auto average = weight().clone().to(torch::kFloat64);
  for (int step = 1; step <= 9; ++step) {
    fill_gradients(*model, step);
    optimizer.step(1e-2, optimizer.grad_norm());
    const double decay = std::min(0.5, (1.0 + step) / (10.0 + step));
    average = decay * average + (1 - decay) * weight();
  }
  const auto raw = weight().clone();
  optimizer.ema()->swap();
  EXPECT_LT((weight() - average).abs().max().item<double>(), 1e-6);
  EXPECT_FALSE(torch::equal(weight(), raw));
  optimizer.ema()->swap();
  EXPECT_TRUE(torch::equal(weight(), raw));
}

}  // namespace
}  // namespace rwkvx
