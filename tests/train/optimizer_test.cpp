#include "rwkvx/train/optimizer.h"

#include <gtest/gtest.h>
#include <torch/types.h>

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

}  // namespace
}  // namespace rwkvx
