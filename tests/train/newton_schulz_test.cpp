#include "train/newton_schulz.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>

namespace rwkvx {
namespace {

// The iteration as its authors print it, in float64.
at::Tensor reference(const at::Tensor& matrix) {
  auto x = matrix.to(torch::kFloat64);
  const bool tall = x.size(0) > x.size(1);
  if (tall) x = x.t();
  x = x / (x.norm() + 1e-7);
  for (int step = 0; step < 5; ++step) {
    const auto a = at::matmul(x, x.t());
    x = 3.4445 * x + at::matmul(-4.7750 * a + 2.0315 * at::matmul(a, a), x);
  }
  return tall ? x.t() : x;
}

TEST(NewtonSchulz, IsTheIterationInFloat64) {
  torch::manual_seed(1);
  for (const auto& [rows, columns] : {std::pair{32, 32}, {64, 16}, {16, 80}, {1, 7}, {5, 1}}) {
    const auto matrix = torch::randn({rows, columns}) * 0.01;
    const auto found = orthogonalized(matrix);
    EXPECT_EQ(found.sizes(), matrix.sizes());
    EXPECT_LT((found - reference(matrix)).abs().max().item<double>(), 2e-4)
        << rows << " x " << columns;
  }
}

TEST(NewtonSchulz, MovesSingularValuesToAboutOne) {
  torch::manual_seed(2);
  const auto values = std::get<1>(at::linalg_svd(orthogonalized(torch::randn({48, 128}))));
  EXPECT_GT(values.min().item<double>(), 0.65);
  EXPECT_LT(values.max().item<double>(), 1.25);
}

TEST(NewtonSchulz, ZerosStayAndWhatIsNotFiniteIsSeen) {
  EXPECT_EQ(orthogonalized(torch::zeros({4, 6})).abs().max().item<double>(), 0);
  for (const float bad :
       {1e30f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    auto matrix = torch::ones({4, 6});
    matrix[0][0] = bad;
    EXPECT_TRUE(orthogonalized(matrix).isnan().any().item<bool>()) << bad;
  }
}

}  // namespace
}  // namespace rwkvx
