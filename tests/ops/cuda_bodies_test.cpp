// The bodies of the CUDA kernels of this room, run on the CPU, against the CPU's own kernels.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "rwkvx/kernels/activation.h"
#include "rwkvx/kernels/adamw.h"
#include "rwkvx/ops/cuda/adamw_on_device.h"
#include "rwkvx/ops/cuda/cross_entropy.h"
#include "rwkvx/ops/cuda/elementwise.h"
#include "support/tensors.h"

namespace rwkvx {
namespace {

float* data(const at::Tensor& t) { return t.mutable_data_ptr<float>(); }

TEST(CudaBodies, AdamwTakesTheKernelsSteps) {
  at::manual_seed(1);
  const int64_t N = 20'000;
  struct Group {
    int64_t offset, count;
    float rate, decay;
  };
  const std::vector<Group> groups{{0, 70, 1, 0.1f}, {80, 33, 3, 0}, {128, 19'000, 2, 0.5f}};
  std::vector<cuda::AdamwPiece> pieces;
  for (const auto& one : groups)
    cuda::add_pieces(pieces, {one.offset, one.count, one.rate, one.decay});
  EXPECT_GT(pieces.size(), groups.size());
  const auto start = at::randn({N});
  auto x = start.clone(), m = at::zeros({N}), v = at::zeros({N});
  auto own_x = start.clone(), own_m = at::zeros({N}), own_v = at::zeros({N});
  const auto table = cuda::piece_table(pieces, own_x);
  for (int step = 1; step <= 5; ++step) {
    const auto grad = at::randn({N});
    auto own_grad = grad.clone();
    cuda::AdamwCall call{};
    call.rate = 1e-2f, call.grad_scale = 0.7f, call.beta1 = 0.9f, call.beta2 = 0.99f;
    call.epsilon = 1e-8f;
    call.m_scale = static_cast<float>(1 / (1 - std::pow(0.9, step)));
    call.v_scale = static_cast<float>(1 / (1 - std::pow(0.99, step)));
    cuda::adamw_step(call, table, own_x, own_grad, own_m, own_v);
    for (const auto& one : groups) {
      auto g = grad.slice(0, one.offset, one.offset + one.count).clone();
      EXPECT_EQ(own_grad.slice(0, one.offset, one.offset + one.count).abs().max().item<float>(), 0);
      adamw_step({one.count, data(x) + one.offset, data(g), data(m) + one.offset,
                  data(v) + one.offset, call.grad_scale, call.rate * one.rate, one.decay,
                  call.beta1, call.beta2, call.epsilon, call.m_scale, call.v_scale});
    }
  }
  // Padding between the parameters stays.
  EXPECT_TRUE(at::equal(own_x.slice(0, 70, 80), start.slice(0, 70, 80)));
  test::expect_near_in_norm(own_x, x, 1e-6);
  test::expect_near_in_norm(own_v, v, 1e-6);
}

// Rows of logits with room behind them, as the CPU's kernel and as the GPU's blocks take them.
TEST(CudaBodies, CrossEntropyIsTheCpus) {
  at::manual_seed(2);
  const int64_t R = 5, V = 700, stride = 704;
  for (const float l2wrap : {0.0f, 0.1f})
    for (const float scale : {0.0f, 0.3f}) {
      auto logits = at::randn({R, stride}) * 8;
      logits.slice(1, V).fill_(std::numeric_limits<float>::quiet_NaN());
      logits[2].slice(0, 0, V).fill_(3);  // all alike: the first counts as the largest
      logits[3][699] = 90;
      const auto wanted = logits.clone();
      const auto targets = at::randint(V, {R}, at::kLong);
      const auto weights = at::rand({R});
      auto losses = at::empty({R}, at::kDouble);
      cuda::CrossEntropyCall<float> call{R,
                                         V,
                                         stride,
                                         data(logits),
                                         targets.const_data_ptr<int64_t>(),
                                         weights.const_data_ptr<float>(),
                                         scale,
                                         l2wrap,
                                         losses.mutable_data_ptr<double>()};
      const auto shared = std::make_unique<cuda::CrossEntropyShared>();
      for (int64_t row = 0; row < R; ++row) {
        cross_entropy_block(call, row, cuda::EmulatedBlock<cuda::kCrossEntropyThreads>(), *shared);
        const float weight = weights[row].item<float>();
        const double loss = static_cast<double>(weight) *
                            cross_entropy_row(data(wanted) + row * stride, V,
                                              targets[row].item<int64_t>(), scale * weight, l2wrap);
        EXPECT_NEAR(losses[row].item<double>(), loss, 1e-5 * std::abs(loss) + 1e-6) << row;
      }
      if (scale == 0) continue;
      test::expect_near_in_norm(logits.slice(1, 0, V), wanted.slice(1, 0, V), 1e-5);
      EXPECT_EQ(logits.slice(1, V).abs().max().item<float>(), 0);
    }
}

template <class Step>
void run(const Step& step, int64_t count) {
  for (int64_t i = 0; i < count; ++i) step.at(i);
}

TEST(CudaBodies, ElementwiseStepsAreTheCpus) {
  at::manual_seed(3);
  const int64_t N = 301;
  const auto draw = [&] { return at::randn({N}) * 6; };
  const auto x = draw(), o = draw(), r = draw(), v = draw(), dy = draw(), h = draw().relu();
  const auto near = [](const at::Tensor& found, const at::Tensor& wanted) {
    test::expect_close(found, wanted, 2e-6, 1e-7);
  };
  auto found = at::empty({N}), wanted = at::empty({N});
  run(cuda::Residual<float>{data(x), data(o), data(found)}, N);
  residual_forward(data(x), data(o), data(wanted), N);
  near(found, wanted);
  run(cuda::GatedResidual<float>{data(x), data(r), data(v), data(found)}, N);
  gated_residual_forward(data(x), data(r), data(v), data(wanted), N);
  near(found, wanted);
  auto dr = at::empty({N}), dv = at::empty({N}), wanted_dr = at::empty({N}),
       wanted_dv = at::empty({N});
  run(cuda::GatedResidualAdjoint<float>{data(dy), data(r), data(v), data(dr), data(dv)}, N);
  gated_residual_backward(data(dy), data(r), data(v), data(wanted_dr), data(wanted_dv), N);
  near(dr, wanted_dr);
  near(dv, wanted_dv);

  const auto in_place = [&](auto step, auto* kernel) {
    found = x.clone(), wanted = x.clone();
    step.h = data(found);
    run(step, N);
    kernel(data(wanted), N);
    near(found, wanted);
  };
  in_place(cuda::ReluSquare<float>{}, relu_square_forward);
  in_place(cuda::Tanh<float>{}, tanh_forward);
  in_place(cuda::Sigmoid<float>{}, sigmoid_forward);
  const auto adjoint = [&](auto step, auto* kernel) {
    found = dy.clone(), wanted = dy.clone();
    step.h = data(h), step.dh = data(found);
    run(step, N);
    kernel(data(h), data(wanted), N);
    near(found, wanted);
  };
  adjoint(cuda::ReluSquareAdjoint<float>{}, relu_square_backward);
  adjoint(cuda::TanhAdjoint<float>{}, tanh_backward);
  adjoint(cuda::SigmoidAdjoint<float>{}, sigmoid_backward);

  // The very numbers are dropped that the CPU drops.
  const std::uint64_t key = 0x123456789abcdef0u;
  found = x.clone(), wanted = x.clone();
  run(cuda::Dropout::of(data(found), (int64_t{1} << 33) + 5, key, 0.3f), N);
  dropout_in_place(data(wanted), (int64_t{1} << 33) + 5, N, key, 0.3f);
  EXPECT_TRUE(at::equal(found, wanted));
}

TEST(CudaBodies, RowsOfOneTokenAreAddedInTheirOrder) {
  at::manual_seed(4);
  const int64_t C = 5, V = 7;
  for (const int64_t rows : {1, 8, 100}) {
    // Of two tokens more than are under way together, of others none.
    const auto inputs = at::randint(2, {rows}, at::kLong) * 4 + 1;
    const auto gradients = at::randn({rows, C}), start = at::randn({V, C});
    const auto [ids, order] = inputs.sort(std::optional(true));
    auto found = start.clone(), wanted = start.clone();
    run(cuda::EmbeddingGradient{ids.const_data_ptr<int64_t>(), order.const_data_ptr<int64_t>(),
                                data(gradients), data(found), rows, C},
        rows * C);
    for (int64_t i = 0; i < rows; ++i) wanted[inputs[i].item<int64_t>()] += gradients[i];
    EXPECT_TRUE(at::equal(found, wanted)) << rows;
  }
}

}  // namespace
}  // namespace rwkvx
