#include "rwkvx/study/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "rwkvx/base/error.h"
#include "rwkvx/base/statistics.h"

namespace rwkvx {
namespace {

TEST(StudyStatistics, MeanDeviationAndMedianAreTheTextbooks) {
  const std::vector<double> values{2, 4, 4, 4, 5, 5, 7, 9};
  EXPECT_DOUBLE_EQ(compensated_mean(values), 5);
  EXPECT_NEAR(sample_deviation(values), std::sqrt(32.0 / 7), 1e-12);
  EXPECT_DOUBLE_EQ(median(values), 4.5);
  EXPECT_EQ(sample_deviation(std::vector<double>{3}), 0);
}

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
