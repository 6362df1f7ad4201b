#include "rwkvx/metrics/seed_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/metrics/paired_test.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;

// Two systems without a difference but `gain`, in points of ROUGE-L: seeds vary by 0.6, prompts,
// common to both, by 12, single continuations by 8.
class Simulated {
 public:
  explicit Simulated(std::uint32_t seed) : random_(seed) {}
  double draw(double deviation) { return deviation * normal_(random_); }
  std::pair<SeedScores, SeedScores> systems(std::size_t seeds, std::size_t prompts, double gain,
                                            double seed_deviation = 0.6) {
    std::vector<double> levels(prompts);
    for (auto& level : levels) level = 30 + draw(12);
    const auto system = [&](double more) {
      SeedScores scores;
      for (std::size_t s = 0; s < seeds; ++s) {
        const double own = more + draw(seed_deviation);
        auto& one = scores.emplace_back();
        for (const double level : levels) one.push_back(level + own + draw(8));
      }
      return scores;
    };
    auto a = system(0);
    return {std::move(a), system(gain)};
  }

 private:
  std::mt19937 random_;
  std::normal_distribution<double> normal_;
};

std::vector<double> mean_over_seeds(const SeedScores& scores) {
  std::vector<double> mean(scores[0].size());
  for (const auto& one : scores)
    for (std::size_t i = 0; i < one.size(); ++i)
      mean[i] += one[i] / static_cast<double>(scores.size());
  return mean;
}

TEST(SeedTest, IsWelchsTestOfTheSeedsMeansWhereSamplesAddNothing) {
  // Seed means 1, 2, 3 and 4, 6, 8; the same shift of every sample, so no noise and no interaction.
  const auto make = [](const std::vector<double>& means) {
    SeedScores scores;
    for (const double mean : means) scores.push_back({mean - 5, mean, mean + 5});
    return scores;
  };
  const auto found = compare_seeds(make({1, 2, 3}), make({4, 6, 8}), false, 20000, 1);
  EXPECT_NEAR(found.difference, 4, 1e-12);
  EXPECT_NEAR(found.standard_error, std::sqrt(1.0 / 3 + 4.0 / 3), 1e-12);
  EXPECT_NEAR(found.degrees_of_freedom, (25.0 / 9) / (1.0 / 18 + 16.0 / 18), 1e-9);
  EXPECT_NEAR(found.sample_variance, 0, 1e-12);
  // All 20 ways to deal six seeds: this one and its mirror are the extremes.
  EXPECT_NEAR(found.p_permutation, 0.1, 1e-12);
  EXPECT_NEAR(found.least_p_permutation, 0.1, 1e-12);
  EXPECT_EQ(found.means_b, (std::vector<double>{4, 6, 8}));
}

TEST(SeedTest, PairedSeedsAreSwappedAndTheirLevelsDoNotCount) {
  SeedScores a, b;
  for (int s = 0; s < 5; ++s) {
    a.push_back({10.0 * s, 10.0 * s + 1, 10.0 * s + 2});
    b.push_back(a.back());
    for (auto& score : b.back()) score += 1 + 0.1 * s;
  }
  const auto paired = compare_seeds(a, b, true, 2000, 1),
             apart = compare_seeds(a, b, false, 2000, 1);
  EXPECT_NEAR(paired.difference, 1.2, 1e-12);
  EXPECT_NEAR(paired.standard_error, 0.1 * std::sqrt(2.5 / 5), 1e-9);
  EXPECT_NEAR(paired.degrees_of_freedom, 4, 1e-6);
  EXPECT_NEAR(paired.p_permutation, 2.0 / 32, 1e-12);
  EXPECT_LT(paired.p_bootstrap, 0.01);
  EXPECT_GT(apart.p_bootstrap, 0.5);
}

TEST(SeedTest, IsTheSameForTheSameSeed) {
  Simulated simulated(3);
  const auto [a, b] = simulated.systems(4, 50, 1);
  const auto one = compare_seeds(a, b, false, 500, 7), two = compare_seeds(a, b, false, 500, 7);
  EXPECT_EQ(one.p_bootstrap, two.p_bootstrap);
  EXPECT_EQ(one.low, two.low);
  EXPECT_NE(one.low, compare_seeds(a, b, false, 500, 8).low);
}

TEST(SeedTest, EqualScoresHaveNoDifference) {
  const SeedScores same(3, std::vector<double>(10, 0.1));
  const auto none = compare_seeds(same, same, false, 100, 1);
  EXPECT_EQ(none.p_bootstrap, 1);
  EXPECT_EQ(none.p_permutation, 1);
  EXPECT_EQ(seeds_needed(none, 0), std::nullopt);
  const SeedScores more(3, std::vector<double>(10, 0.2));
  EXPECT_LT(compare_seeds(same, more, false, 100, 1).p_bootstrap, 0.01);
}

TEST(SeedTest, RefusesWhatItCannotTell) {
  const SeedScores one(1, std::vector<double>(5, 1.0)), two(2, std::vector<double>(5, 1.0));
  const auto refused = [](const auto& call, const char* text) {
    try {
      call();
      ADD_FAILURE() << "expected an error";
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), HasSubstr(text));
    }
  };
  refused([&] { compare_seeds(two, one, false, 10, 1); }, "at least 2 seeds");
  refused([&] { compare_seeds(two, two, false, 0, 1); }, "at least 1 resample");
  refused([&] { compare_seeds(two, SeedScores(3, two[0]), true, 10, 1); }, "to pair them");
  refused([&] { compare_seeds(two, {{1.0}, {2.0}}, false, 10, 1); }, "at least 2 samples");
  refused([&] { compare_seeds(two, {two[0], {1, 2, NAN, 4, 5}}, false, 10, 1); }, "not a finite");
}

// How often a difference is found at the 5 % level.
struct Rates {
  double bootstrap = 0, interval = 0, permutation = 0, prompts_alone = 0;
};
Rates rates(int cases, std::size_t seeds, std::size_t prompts, double gain,
            double seed_deviation = 0.6) {
  Rates found;
  Simulated simulated(static_cast<std::uint32_t>(100 + seeds));
  for (int i = 0; i < cases; ++i) {
    const auto [a, b] = simulated.systems(seeds, prompts, gain, seed_deviation);
    const auto one = compare_seeds(a, b, false, 399, static_cast<std::uint64_t>(i));
    const auto without = compare_paired(mean_over_seeds(a), mean_over_seeds(b), 99, 1);
    found.bootstrap += one.p_bootstrap < 0.05;
    found.interval += one.low > 0 || one.high < 0;
    found.permutation += one.p_permutation < 0.05;
    found.prompts_alone += without.p_randomization < 0.05;
  }
  for (auto* rate : {&found.bootstrap, &found.interval, &found.permutation, &found.prompts_alone})
    *rate /= cases;
  // For those who read the XML.
  ::testing::Test::RecordProperty(
      std::to_string(seeds) + " seeds that vary by " + std::to_string(seed_deviation),
      "bootstrap " + std::to_string(found.bootstrap) + ", permutation " +
          std::to_string(found.permutation) + ", prompts alone " +
          std::to_string(found.prompts_alone));
  return found;
}

TEST(SeedTestSlow, GivesFivePercentFalseAlarmsWhereSeedsVary) {
  const auto five = rates(2500, 5, 630, 0);
  EXPECT_NEAR(five.bootstrap, 0.05, 0.01);
  EXPECT_EQ(five.interval, five.bootstrap);
  EXPECT_NEAR(five.permutation, 0.05, 0.01);
  EXPECT_GT(five.prompts_alone, 0.15);  // what a test over prompts alone takes for a difference
  const auto three = rates(600, 3, 630, 0);
  EXPECT_LT(three.bootstrap, 0.07);
  EXPECT_EQ(three.permutation, 0);  // its p is at least 0.1
  EXPECT_NEAR(rates(600, 10, 630, 0).bootstrap, 0.05, 0.025);
  EXPECT_LT(rates(600, 5, 630, 0, /*seed_deviation=*/0).bootstrap, 0.07);
}

TEST(SeedTestSlow, FindsTheDifferenceWithTheSeedsThatItSaysAreNeeded) {
  SeedComparison known;
  known.samples = 630;
  known.seed_variance_a = known.seed_variance_b = 0.6 * 0.6 + 8.0 * 8 / 630;
  const auto needed = seeds_needed(known, 1.2);
  ASSERT_TRUE(needed);
  EXPECT_EQ(*needed, 7);
  EXPECT_LE(detectable_difference(known, *needed), 1.2);
  EXPECT_GT(detectable_difference(known, *needed - 1), 1.2);
  EXPECT_NEAR(rates(600, static_cast<std::size_t>(*needed), 630, 1.2).bootstrap, 0.84, 0.06);
  EXPECT_EQ(seeds_needed(known, 1e-6), std::nullopt);
}

TEST(Distributions, AreThoseOfTheTables) {
  EXPECT_NEAR(normal_cdf(1.959963984540054), 0.975, 1e-12);
  EXPECT_NEAR(normal_quantile(0.975), 1.959963984540054, 1e-12);
  EXPECT_NEAR(normal_quantile(1e-6), -4.753424308822899, 1e-9);
  EXPECT_NEAR(student_t_quantile(0.975, 1), 12.706204736432095, 1e-8);
  EXPECT_NEAR(student_t_quantile(0.975, 2), 4.302652729911275, 1e-9);
  EXPECT_NEAR(student_t_quantile(0.975, 8), 2.306004135204166, 1e-9);
  EXPECT_NEAR(student_t_quantile(0.8, 4), 0.9409645774, 1e-8);
  EXPECT_NEAR(student_t_quantile(0.025, 1e6), -1.9599664, 1e-6);
  for (const double degrees : {0.5, 1.0, 3.7, 50.0})
    for (const double p : {0.001, 0.3, 0.5, 0.99})
      EXPECT_NEAR(student_t_cdf(student_t_quantile(p, degrees), degrees), p, 1e-10);
}

}  // namespace
}  // namespace rwkvx
