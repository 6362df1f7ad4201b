#include "train/guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace rwkvx {
namespace {

using testing::HasSubstr;

TrainingConfig settings() {
  TrainingConfig config;
  config.spike_zscore = 4;
  config.spike_window = 8;
  return config;
}

// Losses of 2.9, 3.1, 2.9, … and norms of 1.
GuardState full_window(const TrainingConfig& config) {
  GuardState state;
  for (int i = 0; i < 8; ++i) EXPECT_EQ(find_spike(config, i % 2 == 0 ? 2.9 : 3.1, 1, state), "");
  return state;
}

TEST(Guard, FindsALossFarAboveTheWindow) {
  const auto config = settings();
  auto state = full_window(config);
  EXPECT_EQ(find_spike(config, 3.51, 1, state),
            "the loss is 3.51, 5.1 standard deviations above the mean of the last 8 steps");
  EXPECT_EQ(state.losses.size(), 8u);  // a spike is not remembered
  EXPECT_EQ(state.losses.back(), 3.1);
  EXPECT_EQ(find_spike(config, 3.39, 1, state), "");
  EXPECT_EQ(find_spike(config, 0.1, 1, state), "");  // below is no spike
  EXPECT_EQ(state.losses.size(), 8u);
  EXPECT_EQ(state.losses.back(), 0.1);
}

TEST(Guard, FindsAGradientFarAboveTheWindowAndCountsOnePercentAtLeast) {
  const auto config = settings();
  auto state = full_window(config);
  EXPECT_EQ(find_spike(config, 3, 1.039, state), "");  // all norms alike: the deviation is 0.01
  EXPECT_THAT(find_spike(config, 3, 1.2, state), HasSubstr("the gradient norm is 1.2, "));
}

TEST(Guard, NeedsAFullWindow) {
  const auto config = settings();
  GuardState state;
  for (int i = 0; i < 7; ++i) EXPECT_EQ(find_spike(config, 1, 1, state), "");
  EXPECT_EQ(find_spike(config, 100, 100, state), "");
}

TEST(Guard, ValuesThatAreNotFiniteNeedNoWindow) {
  auto config = settings();
  config.spike_zscore = 0;
  GuardState state;
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(find_spike(config, infinity, 1, state), "the loss is inf");
  EXPECT_EQ(find_spike(config, 1, infinity, state), "the gradient's norm is not finite");
  EXPECT_EQ(find_spike(config, std::nan(""), 1, state), "the loss is nan");
  EXPECT_EQ(find_spike(config, 1, 1e30, state), "");
  EXPECT_TRUE(state.losses.empty());  // nothing is kept where nothing is compared
}

TEST(Guard, IsSavedExactly) {
  const auto config = settings();
  auto state = full_window(config);
  state.losses[3] = 1.0 / 3;
  state.used = 2;
  state.verified = 17;
  const auto again = guard_from_json(nlohmann::json::parse(guard_to_json(state).dump()));
  EXPECT_EQ(again.losses, state.losses);
  EXPECT_EQ(again.norms, state.norms);
  EXPECT_EQ(again.used, 2);
  EXPECT_EQ(again.verified, 17);
}

}  // namespace
}  // namespace rwkvx
