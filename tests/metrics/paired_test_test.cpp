#include "rwkvx/metrics/paired_test.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <random>
#include <vector>

#include "rwkvx/base/error.h"
#include "support/long_tests.h"

namespace rwkvx {
namespace {

// Scores of two systems on samples that are hard or easy for both.
struct Simulation {
  explicit Simulation(std::uint32_t seed) : random(seed) {}
  double uniform() { return static_cast<double>(random()) / 4294967296.0; }
  void draw(std::size_t count, double better) {
    a.clear();
    b.clear();
    for (std::size_t i = 0; i < count; ++i) {
      const double easy = uniform();
      a.push_back(0.5 * easy + 0.5 * uniform());
      b.push_back(0.5 * easy + 0.5 * uniform() + better);
    }
  }
  std::mt19937 random;
  std::vector<double> a, b;
};

// Two standard errors of a share of 0.05 or 0.95 of so many cases: 0.01 of 2000.
double tolerance(int cases) { return 0.01 * std::sqrt(2000.0 / cases); }

TEST(PairedTest, RejectsSystemsWithoutDifferenceInFivePercentOfCases) {
  Simulation simulation(1);
  int by_bootstrap = 0, by_randomization = 0;
  const int cases = 2000;
  for (int i = 0; i < cases; ++i) {
    simulation.draw(200, 0);
    const auto found =
        compare_paired(simulation.a, simulation.b, 399, static_cast<std::uint64_t>(i));
    by_bootstrap += found.p_bootstrap <= 0.05;
    by_randomization += found.p_randomization <= 0.05;
  }
  EXPECT_NEAR(by_bootstrap / static_cast<double>(cases), 0.05, 0.01);
  EXPECT_NEAR(by_randomization / static_cast<double>(cases), 0.05, 0.01);
  RecordProperty("rejected by bootstrap", by_bootstrap);
  RecordProperty("rejected by randomization", by_randomization);
}

TEST(PairedTestSlow, IntervalsHoldTheTruthInNinetyFivePercentOfCases) {
  Simulation simulation(12);
  const double better = 0.03;
  int covered = 0;
  const int cases = test::rounds(500, 2000);
  for (int i = 0; i < cases; ++i) {
    simulation.draw(200, better);
    const auto seed = static_cast<std::uint64_t>(i);
    const auto found = compare_paired(simulation.a, simulation.b, 1000, seed);
    covered += found.low <= better && better <= found.high;
  }
  EXPECT_NEAR(covered / static_cast<double>(cases), 0.95, tolerance(cases));
  RecordProperty("covered", covered);
}

TEST(PairedTest, IntervalsOfAMeanHoldTheTruthInNinetyFivePercentOfCases) {
  Simulation simulation(2);
  int covered = 0;
  const int cases = test::rounds(500, 2000);
  for (int i = 0; i < cases; ++i) {
    simulation.draw(200, 0);
    const auto mean = mean_interval(simulation.a, 400, static_cast<std::uint64_t>(i));
    covered += mean.low <= 0.5 && 0.5 <= mean.high;
  }
  EXPECT_NEAR(covered / static_cast<double>(cases), 0.95, tolerance(cases));
}

TEST(PairedTest, FindsADifferenceThatIsThere) {
  Simulation simulation(3);
  simulation.draw(500, 0.1);
  const auto found = compare_paired(simulation.a, simulation.b, 999, 7);
  EXPECT_EQ(found.p_bootstrap, 0.001);
  EXPECT_EQ(found.p_randomization, 0.001);
  EXPECT_GT(found.low, 0.05);
  EXPECT_LT(found.high, 0.15);
  EXPECT_EQ(found.samples, 500);
  const auto other = compare_paired(simulation.b, simulation.a, 999, 7);
  EXPECT_EQ(other.difference, -found.difference);
  EXPECT_EQ(other.effect_size, -found.effect_size);
  EXPECT_EQ(other.p_randomization, found.p_randomization);
}

// Differences 1, 2, 3: mean 2, deviation 1. Of the 8 choices of signs only all plus and all minus
// reach a sum of 6.
TEST(PairedTest, EqualsWhatCountingByHandGives) {
  const std::vector<double> a = {0, 0, 0}, b = {1, 2, 3};
  const auto found = compare_paired(a, b, 100000, 1);
  EXPECT_EQ(found.mean_a, 0);
  EXPECT_EQ(found.mean_b, 2);
  EXPECT_EQ(found.difference, 2);
  EXPECT_DOUBLE_EQ(found.effect_size, 2);
  EXPECT_NEAR(found.p_randomization, 0.25, 0.01);
  // No mean of three of 1, 2, 3 lies 2 away from 2.
  EXPECT_DOUBLE_EQ(found.p_bootstrap, 1.0 / 100001);
}

TEST(PairedTest, EqualSystemsDoNotDiffer) {
  const std::vector<double> a = {0.1, 0.7, 0.3};
  const auto found = compare_paired(a, a, 200, 1);
  EXPECT_EQ(found.difference, 0);
  EXPECT_EQ(found.effect_size, 0);
  EXPECT_EQ(found.p_bootstrap, 1);
  EXPECT_EQ(found.p_randomization, 1);
  const auto shifted = compare_paired(a, std::vector<double>{1.1, 1.7, 1.3}, 200, 1);
  EXPECT_TRUE(std::isinf(shifted.effect_size));
}

TEST(PairedTest, SameSeedSameResultOtherSeedOtherResult) {
  Simulation simulation(4);
  simulation.draw(50, 0.01);
  const auto one = compare_paired(simulation.a, simulation.b, 500, 1);
  const auto again = compare_paired(simulation.a, simulation.b, 500, 1);
  const auto other = compare_paired(simulation.a, simulation.b, 500, 2);
  EXPECT_EQ(one.low, again.low);
  EXPECT_EQ(one.p_bootstrap, again.p_bootstrap);
  EXPECT_EQ(one.p_randomization, again.p_randomization);
  EXPECT_NE(one.low, other.low);
}

TEST(PairedTest, RefusesScoresThatCannotBeCompared) {
  const std::vector<double> one = {1}, two = {1, 2}, odd = {1, std::nan("")};
  EXPECT_THROW(compare_paired(two, one, 10, 0), DataError);
  EXPECT_THROW(compare_paired(one, one, 10, 0), DataError);
  EXPECT_THROW(compare_paired(two, odd, 10, 0), DataError);
  EXPECT_THROW(compare_paired(two, two, 0, 0), DataError);
}

TEST(PairedTest, HolmAdjustsFromTheSmallestOn) {
  EXPECT_EQ(holm_adjusted(std::vector<double>{0.5, 0.01, 0.02, 0.4}),
            (std::vector<double>{0.8, 0.04, 0.06, 0.8}));
  EXPECT_TRUE(holm_adjusted({}).empty());
}

// A thousand resamples of ten thousand samples; the time is recorded, not judged.
TEST(PairedTest, TakesTenThousandSamples) {
  Simulation simulation(5);
  simulation.draw(10000, 0.002);
  const auto begin = std::chrono::steady_clock::now();
  const auto found = compare_paired(simulation.a, simulation.b, 1000, 1);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  RecordProperty("seconds", std::to_string(seconds.count()));
  EXPECT_LT(found.low, found.high);
}

}  // namespace
}  // namespace rwkvx
