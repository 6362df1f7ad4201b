#include "rwkvx/train/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rwkvx {
namespace {

using testing::HasSubstr;

TrainingConfig settings() {
  TrainingConfig config;
  config.learning_rate = 1;
  config.final_learning_rate = 0.1;
  config.warmup_steps = 10;
  config.max_steps = 110;
  return config;
}

constexpr std::int64_t kStepTokens = 100;

double rate(const TrainingConfig& config, std::int64_t step) {
  return scheduled_rate(config, training_budget(config, kStepTokens, 1000), step,
                        step * kStepTokens);
}

TEST(Schedule, RisesThenFollowsACosine) {
  const auto config = settings();
  EXPECT_DOUBLE_EQ(rate(config, 0), 0.2);
  EXPECT_DOUBLE_EQ(rate(config, 5), 0.6);
  EXPECT_DOUBLE_EQ(rate(config, 10), 1.0);
  EXPECT_NEAR(rate(config, 60), 0.55, 1e-12);
  EXPECT_NEAR(rate(config, 110), 0.1, 1e-12);
  EXPECT_NEAR(rate(config, 500), 0.1, 1e-12);
}

TEST(Schedule, FallsAlongALineOrStays) {
  auto config = settings();
  config.lr_schedule = Schedule::kLinear;
  EXPECT_NEAR(rate(config, 35), 0.775, 1e-12);
  EXPECT_NEAR(rate(config, 110), 0.1, 1e-12);
  config.lr_schedule = Schedule::kConstant;
  EXPECT_DOUBLE_EQ(rate(config, 0), 0.2);
  EXPECT_DOUBLE_EQ(rate(config, 110), 1);
}

TEST(Schedule, WsdIsConstantAndThenFallsAsOneMinusASquareRoot) {
  auto config = settings();
  config.lr_schedule = Schedule::kWsd;
  config.decay_share = 0.2;
  EXPECT_DOUBLE_EQ(rate(config, 5), 0.6);
  EXPECT_DOUBLE_EQ(rate(config, 10), 1);
  EXPECT_DOUBLE_EQ(rate(config, 90), 1);
  EXPECT_NEAR(rate(config, 95), 0.1 + 0.9 * (1 - 0.5), 1e-9);
  EXPECT_NEAR(rate(config, 110), 0.1, 1e-9);
}

TEST(Schedule, AWarmUpInTokensIsOneInSteps) {
  auto steps = settings(), tokens = steps;
  tokens.warmup_steps = 0;
  tokens.warmup_tokens = 10 * kStepTokens;
  for (std::int64_t step = 0; step <= 120; ++step)
    EXPECT_NEAR(rate(steps, step), rate(tokens, step), 1e-12) << step;
}

TEST(Schedule, ABudgetInTokensOrEpochsIsOneInSteps) {
  const auto steps = settings();
  auto tokens = steps, epochs = steps, both = steps;
  tokens.max_steps = epochs.max_steps = 0;
  tokens.max_tokens = 110 * kStepTokens;
  epochs.epochs = 11;
  both.max_tokens = 200 * kStepTokens;
  for (std::int64_t step = 0; step <= 120; ++step)
    for (const auto& other : {tokens, epochs, both})
      EXPECT_NEAR(rate(steps, step), rate(other, step), 1e-12) << step;
}

TEST(TrainingBudget, EndsAtTheFirstLimitThatIsReached) {
  auto config = settings();
  config.max_tokens = 5050;
  auto budget = training_budget(config, kStepTokens, 1000);
  EXPECT_EQ(budget.expected_steps(), 51);
  EXPECT_EQ(budget.text(), "5,050 tokens (train.max_tokens)");
  EXPECT_FALSE(budget.reached(50, 5000));
  EXPECT_TRUE(budget.reached(51, 5100));
  EXPECT_TRUE(budget.reached(110, 10));  // batches that were not full
  config.epochs = 2.5;
  budget = training_budget(config, kStepTokens, 1000);
  EXPECT_EQ(budget.expected_steps(), 25);
  EXPECT_EQ(budget.text(), "2,500 tokens (train.epochs)");
  config.max_steps = 20;
  budget = training_budget(config, kStepTokens, 1000);
  EXPECT_EQ(budget.expected_steps(), 20);
  EXPECT_EQ(budget.text(), "20 steps (train.max_steps)");
}

TEST(TrainingBudget, OneIsNeeded) {
  auto config = settings();
  config.max_steps = 0;
  try {
    config.check("train");
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("train.max_steps: expected a length of the run, got 0; set "
                                        "max_steps, max_tokens or epochs"));
  }
  config.epochs = 0.5;
  config.check("train");
}

}  // namespace
}  // namespace rwkvx
