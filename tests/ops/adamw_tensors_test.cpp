#include "rwkvx/ops/adamw_tensors.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "rwkvx/kernels/adamw.h"
#include "support/tensors.h"

namespace rwkvx {
namespace {

TEST(AdamwTensors, TakesTheKernelsSteps) {
  at::manual_seed(1);
  const int64_t N = 200;
  const std::vector<AdamwGroup> groups{{0, 70, 1e-2, 0.1}, {80, 33, 3e-2, 0}, {128, 60, 2e-2, 0.5}};
  AdamwTensors tensors{
      at::randn({N}), {}, at::zeros({N}), at::zeros({N}), groups, 0.7, 0.9, 0.99, 1e-8, 0, 0};
  auto x = tensors.x.clone(), m = at::zeros({N}), v = at::zeros({N});
  for (int step = 1; step <= 5; ++step) {
    const auto grad = at::randn({N});
    tensors.grad = grad.clone();
    tensors.m_scale = 1 / (1 - std::pow(0.9, step));
    tensors.v_scale = 1 / (1 - std::pow(0.99, step));
    adamw_step(tensors);
    for (const auto& group : groups) {
      auto g = grad.slice(0, group.offset, group.offset + group.count).clone();
      const auto at = [&](at::Tensor& flat) {
        return flat.mutable_data_ptr<float>() + group.offset;
      };
      adamw_step({group.count, at(x), g.mutable_data_ptr<float>(), at(m), at(v), 0.7f,
                  static_cast<float>(group.rate), static_cast<float>(group.decay), 0.9f, 0.99f,
                  1e-8f, static_cast<float>(tensors.m_scale), static_cast<float>(tensors.v_scale)});
    }
  }
  test::expect_near_in_norm(tensors.x, x, 1e-6);
  EXPECT_EQ(tensors.grad.abs().max().item<float>(), 0);
}

}  // namespace
}  // namespace rwkvx
