// LibTorch's products, and what MKL is told about the CPU.
#include "rwkvx/ops/matrix_products.h"

#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cstdlib>
#include <vector>

extern "C" int mkl_serv_intel_cpu_true();

namespace rwkvx {
namespace {

TEST(MatrixProducts, TheAnswerThatMklFindsIsOurs) {
  EXPECT_EQ(::dlsym(RTLD_DEFAULT, "mkl_serv_intel_cpu_true"),
            reinterpret_cast<void*>(&mkl_serv_intel_cpu_true));
  if (!mkl_takes_avx512()) GTEST_SKIP() << "this CPU has no AVX-512";
  EXPECT_EQ(mkl_serv_intel_cpu_true(), 1);
  EXPECT_NE(std::getenv("MKL_CBWR"), nullptr);
}

TEST(MatrixProducts, DoNotDependOnTheNumberOfThreads) {
  if (!mkl_takes_avx512()) GTEST_SKIP() << "this CPU has no AVX-512";
  torch::manual_seed(1);
  const auto threads = at::get_num_threads();
  for (const std::int64_t columns : {96, 257, 768}) {
    const auto a = torch::randn({512, columns}), b = torch::randn({384, columns});
    const auto made = [&](int count) {
      at::set_num_threads(count);
      const auto c = at::mm(a, b.t());
      return std::vector{c, at::mm(c, b), at::mm(c.t(), a)};
    };
    const auto one = made(1), two = made(2), three = made(3);
    for (std::size_t i = 0; i < one.size(); ++i) {
      EXPECT_TRUE(torch::equal(one[i], two[i])) << columns << ", " << i;
      EXPECT_TRUE(torch::equal(one[i], three[i])) << columns << ", " << i;
    }
  }
  at::set_num_threads(threads);
}

TEST(MatrixProducts, AreRightInEveryForm) {
  torch::manual_seed(1);
  for (const std::int64_t columns : {1, 17, 96, 257}) {
    const auto a = torch::randn({37, columns}), b = torch::randn({41, columns});
    const auto wide = [](const torch::Tensor& one) { return one.to(torch::kDouble); };
    const auto near = [&](const torch::Tensor& is, const torch::Tensor& right) {
      const double error = ((wide(is) - right).abs().max() / right.abs().max()).item<double>();
      EXPECT_LT(error, 1e-5) << columns;
    };
    near(at::mm(a, b.t()), at::mm(wide(a), wide(b).t()));
    const auto c = at::mm(a, b.t());  // (37, 41)
    near(at::mm(c, b), at::mm(wide(c), wide(b)));
    near(at::mm(c.t(), a), at::mm(wide(c).t(), wide(a)));
  }
}

}  // namespace
}  // namespace rwkvx
