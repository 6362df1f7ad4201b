#include "rwkvx/train/schedule.h"

#include <gtest/gtest.h>

namespace rwkvx {
namespace {

TEST(Schedule, RisesThenFollowsACosine) {
  TrainingConfig config;
  config.learning_rate = 1;
  config.final_learning_rate = 0.1;
  config.warmup_steps = 10;
  config.max_steps = 110;
  EXPECT_DOUBLE_EQ(scheduled_rate(config, 0), 0.2);
  EXPECT_DOUBLE_EQ(scheduled_rate(config, 5), 0.6);
  EXPECT_DOUBLE_EQ(scheduled_rate(config, 10), 1.0);
  EXPECT_NEAR(scheduled_rate(config, 60), 0.55, 1e-12);
  EXPECT_NEAR(scheduled_rate(config, 110), 0.1, 1e-12);
  EXPECT_NEAR(scheduled_rate(config, 500), 0.1, 1e-12);
}

}  // namespace
}  // namespace rwkvx
