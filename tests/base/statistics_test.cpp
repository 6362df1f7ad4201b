#include "rwkvx/base/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace rwkvx {
namespace {

TEST(Statistics, CompensatedSumKeepsWhatPlainSumsLose) {
  EXPECT_EQ(compensated_mean(std::vector<double>{1, 1e100, 1, -1e100}), 0.5);
  EXPECT_EQ(compensated_mean({}), 0);
  EXPECT_EQ(plain_mean(std::vector<double>{1, 2, 6}), 3);
  EXPECT_EQ(plain_mean({}), 0);
}

TEST(Statistics, MeanDeviationAndMedianAreTheTextbooks) {
  const std::vector<double> values{2, 4, 4, 4, 5, 5, 7, 9};
  EXPECT_DOUBLE_EQ(compensated_mean(values), 5);
  EXPECT_NEAR(sample_deviation(values), std::sqrt(32.0 / 7), 1e-12);
  EXPECT_DOUBLE_EQ(median(values), 4.5);
  EXPECT_DOUBLE_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({}), 0);
  EXPECT_EQ(sample_deviation(std::vector<double>{3}), 0);
  // The deviation of the same values over the root of their number.
  EXPECT_NEAR(standard_error(8, 40, 232), std::sqrt(32.0 / 7 / 8), 1e-12);
  EXPECT_EQ(standard_error(1, 3, 9), 0);
}

TEST(Statistics, QuantilesInterpolateOrTakeTheNearestValue) {
  const std::vector<double> sorted{10, 20, 40, 80};
  EXPECT_DOUBLE_EQ(quantile(sorted, 0), 10);
  EXPECT_DOUBLE_EQ(quantile(sorted, 0.5), 30);
  EXPECT_DOUBLE_EQ(quantile(sorted, 0.9), 68);  // as numpy.percentile
  EXPECT_DOUBLE_EQ(quantile(sorted, 1), 80);
  EXPECT_DOUBLE_EQ(nearest_quantile(sorted, 0.3), 20);
  EXPECT_DOUBLE_EQ(nearest_quantile(sorted, 0.5), 40);
  EXPECT_DOUBLE_EQ(nearest_quantile(sorted, 1), 80);
}

}  // namespace
}  // namespace rwkvx
