#include "rwkvx/metrics/choice_scores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "rwkvx/metrics/proportion.h"

namespace rwkvx {
namespace {

using Choices = std::vector<ChoiceLikelihood>;

// lm-evaluation-harness 0.4.13, api/task.py, process_results of multiple_choice: np.argmax of the
// log-likelihoods, and of them divided by the lengths as floats; utils.softmax.
std::size_t argmax(const std::vector<double>& values) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < values.size(); ++i)
    if (values[i] > values[best]) best = i;
  return best;
}

TEST(ChoiceScores, EqualLmEvaluationHarnessOnTheSameLogLikelihoods) {
  std::mt19937 random(1);
  std::normal_distribution<double> normal(-20, 8);
  double acc = 0, acc_norm = 0, acc_bytes = 0, brier = 0;
  double found_acc = 0, found_norm = 0, found_bytes = 0, found_brier = 0;
  const int items = 2000;
  for (int i = 0; i < items; ++i) {
    Choices choices(2 + random() % 5);
    std::vector<double> lls, norm, bytes;
    for (auto& one : choices) {
      // Whole numbers, so that some are equal.
      one.logprob = i % 3 == 0 ? std::round(normal(random) / 4) : normal(random);
      one.characters = 1 + static_cast<std::int64_t>(random() % 12);
      one.bytes = one.characters + static_cast<std::int64_t>(random() % 9);
      lls.push_back(one.logprob);
      norm.push_back(one.logprob / static_cast<double>(one.characters));
      bytes.push_back(one.logprob / static_cast<double>(one.bytes));
    }
    const std::size_t gold = random() % choices.size();
    acc += argmax(lls) == gold ? 1.0 : 0.0;
    acc_norm += argmax(norm) == gold ? 1.0 : 0.0;
    acc_bytes += argmax(bytes) == gold ? 1.0 : 0.0;
    const double most = lls[argmax(lls)];
    double sum = 0;
    for (const double ll : lls) sum += std::exp(ll - most);
    for (std::size_t k = 0; k < lls.size(); ++k)
      brier += std::pow(std::exp(lls[k] - most) / sum - (k == gold ? 1.0 : 0.0), 2);

    const auto best = best_choices(choices);
    found_acc += best[0] == gold ? 1.0 : 0.0;
    found_norm += best[1] == gold ? 1.0 : 0.0;
    found_bytes += best[2] == gold ? 1.0 : 0.0;
    found_brier += brier_score(choice_probabilities(choices), gold);
  }
  EXPECT_NEAR(found_acc / items, acc / items, 1e-12);
  EXPECT_NEAR(found_norm / items, acc_norm / items, 1e-12);
  EXPECT_NEAR(found_bytes / items, acc_bytes / items, 1e-12);
  EXPECT_NEAR(found_brier / items, brier / items, 1e-12);
}

TEST(ChoiceScores, DivideByCharactersBytesAndTokens) {
  // Each rule has a choice of its own.
  const Choices choices = {{-4, 1, 4, 4}, {-6, 2, 20, 60}, {-8, 3, 16, 90}, {-9, 9, 4, 10}};
  EXPECT_EQ(best_choices(choices), (std::array<std::size_t, 4>{0, 1, 2, 3}));
  const Choices equal = {{-3, 1, 1, 1}, {-2, 1, 1, 1}, {-2, 1, 1, 1}};
  EXPECT_EQ(best_choices(equal), (std::array<std::size_t, 4>{1, 1, 1, 1}));
}

TEST(ChoiceScores, ProbabilitiesSumToOneAlsoFarFromZero) {
  const Choices choices = {{-2000, 1, 1, 1}, {-2001, 1, 1, 1}};
  const auto probabilities = choice_probabilities(choices);
  EXPECT_NEAR(probabilities[0], 1 / (1 + std::exp(-1)), 1e-15);
  EXPECT_NEAR(probabilities[0] + probabilities[1], 1, 1e-15);
  EXPECT_NEAR(brier_score(probabilities, 1), 2 * probabilities[0] * probabilities[0], 1e-15);
}

TEST(Calibration, IsTheGapBetweenConfidenceAndAccuracy) {
  Calibration calibration(10);
  calibration.add(0.95, true);
  calibration.add(0.97, false);
  calibration.add(0.5, true);  // of (0.4, 0.5]
  calibration.add(1.0, true);
  calibration.add(0.0, false);
  const auto& bins = calibration.bins();
  EXPECT_EQ(bins[9].items, 3);
  EXPECT_EQ(bins[9].right, 2);
  EXPECT_EQ(bins[4].items, 1);
  EXPECT_EQ(bins[0].items, 1);
  // |2 - 2.92| + |1 - 0.5| + |0 - 0|, over five items.
  EXPECT_NEAR(calibration.expected_error(), (0.92 + 0.5) / 5, 1e-12);
  EXPECT_EQ(Calibration(3).expected_error(), 0);
}

TEST(Proportion, WilsonsIntervalIsThatOfThePaper) {
  // R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
  const auto near = [](const ShareInterval& found, double low, double high) {
    EXPECT_NEAR(found.low, low, 5e-5);
    EXPECT_NEAR(found.high, high, 5e-5);
  };
  near(wilson_interval(81, 263), 0.2553, 0.3662);
  near(wilson_interval(15, 148), 0.0624, 0.1605);
  near(wilson_interval(0, 20), 0.0000, 0.1611);
  near(wilson_interval(1, 29), 0.0061, 0.1718);
  EXPECT_EQ(wilson_interval(20, 20).high, 1);
}

TEST(Proportion, McNemarsExactPIsTheBinomialTail) {
  EXPECT_EQ(mcnemar_p(0, 0), 1);
  EXPECT_EQ(mcnemar_p(4, 4), 1);
  EXPECT_NEAR(mcnemar_p(0, 5), 2.0 / 32, 1e-12);
  EXPECT_NEAR(mcnemar_p(9, 1), 2 * 11.0 / 1024, 1e-12);
  EXPECT_EQ(mcnemar_p(12, 3), mcnemar_p(3, 12));
  EXPECT_GT(mcnemar_p(500000, 500100), 0.9);  // no overflow
  EXPECT_LT(mcnemar_p(400000, 600000), 1e-9);
}

}  // namespace
}  // namespace rwkvx
