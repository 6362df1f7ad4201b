#include "rwkvx/study/statistics.h"

#include <gtest/gtest.h>

#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

TEST(StudyStatistics, AnExponentIsFound) {
  const std::vector<double> sizes{128, 512, 2048, 8192};
  std::vector<std::vector<double>> seconds;
  for (const double size : sizes)
    seconds.push_back({0.9 * size * size, 1.0 * size * size, 1.1 * size * size});
  const auto fit = fit_exponent(sizes, seconds, 500, 1);
  EXPECT_NEAR(fit.exponent, 2, 1e-9);
  EXPECT_LE(fit.low, 2);
  EXPECT_GE(fit.high, 2);
  EXPECT_GT(fit.low, 1.9);
  EXPECT_LT(fit.high, 2.1);
  EXPECT_THROW(fit_exponent(std::vector<double>{1}, {{1}}, 10, 1), DataError);
  EXPECT_THROW(fit_exponent(std::vector<double>{1, 2}, {{1}, {0}}, 10, 1), DataError);
}

}  // namespace
}  // namespace rwkvx
