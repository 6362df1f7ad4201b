#include "rwkvx/train/optimizer.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <map>

#include "rwkvx/model/rwkv.h"

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
  ASSERT_EQ(moments.size(), 4u);
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

}  // namespace
}  // namespace rwkvx
