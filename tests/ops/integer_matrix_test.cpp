// Products with int8 matrices, the kernel's body run on the CPU, against what the integers stand
// for.
#include "rwkvx/ops/integer_matrix.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "rwkvx/kernels/round_matrix.h"
#include "support/tensors.h"

namespace rwkvx {
namespace {

TEST(IntegerMatrix, MultipliesWithWhatItsIntegersStandFor) {
  at::manual_seed(7);
  const auto cpu = c10::Device(c10::kCPU);
  for (const auto& [M, N] : {std::pair<int64_t, int64_t>{96, 64}, {5, 30}, {1, 3}, {4099, 8}})
    for (const bool outliers : {false, true}) {
      auto w = at::randn({M, N}) * 0.3;
      if (outliers) w[M / 2][N / 2] = 40, w[M - 1][0] = -25;
      const auto rounded = round_matrix(w.const_data_ptr<float>(), M, N, WeightType::kInt8);
      if (M * N > 1000) {
        EXPECT_EQ(rounded.view.wide_count() > 0, outliers);
      }
      auto floats = at::empty({M, N});
      unpack_rows(rounded.view, 0, M, floats.mutable_data_ptr<float>());
      const IntegerMatrix matrix(rounded.view, cpu);
      for (const int64_t rows : {1, 7, 8, 9, 16, 17, 40}) {
        SCOPED_TRACE(std::to_string(M) + " x " + std::to_string(N) + ", rows " +
                     std::to_string(rows));
        const auto x = at::randn({rows, 1, N});
        const auto found = matrix.product(x);
        ASSERT_EQ(found.sizes(), (at::IntArrayRef{rows, 1, M}));
        test::expect_near_in_norm(found, at::linear(x, floats), 1e-5);
        const auto half = matrix.product(x.to(at::kBFloat16));
        ASSERT_EQ(half.scalar_type(), at::kBFloat16);
        test::expect_near_in_norm(half.to(at::kFloat), at::linear(x, floats), 1e-2);
      }
    }
}

TEST(IntegerMatrix, TakesTheParametersPlaceInLinear) {
  const auto w = at::randn({12, 8}), other = at::randn({12, 8}), x = at::randn({3, 8});
  const auto rounded = round_matrix(w.const_data_ptr<float>(), 12, 8, WeightType::kInt8);
  IntegerMatrices integers;
  integers.emplace(w.unsafeGetTensorImpl(), IntegerMatrix(rounded.view, c10::Device(c10::kCPU)));
  EXPECT_TRUE(at::equal(linear(x, w, nullptr), at::linear(x, w)));
  EXPECT_TRUE(at::equal(linear(x, other, &integers), at::linear(x, other)));
  EXPECT_FALSE(at::equal(linear(x, w, &integers), at::linear(x, w)));
  test::expect_near_in_norm(linear(x, w, &integers), at::linear(x, w), 1e-2);
}

}  // namespace
}  // namespace rwkvx
