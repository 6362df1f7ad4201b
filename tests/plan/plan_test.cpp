// The arithmetic of a plan, and one measured on this machine.
#include "rwkvx/plan/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rwkvx/base/error.h"
#include "rwkvx/cores/parameters.h"

namespace rwkvx {
namespace {

TrainConfig small() {
  TrainConfig config;
  config.model.n_layer = 2, config.model.n_embd = 32, config.model.vocab_size = 64;
  config.train.ctx_len = 16, config.train.batch_size = 8, config.train.grad_accum_steps = 2;
  return config;
}

double part(const std::vector<std::pair<std::string, double>>& rows, const std::string& name) {
  for (const auto& [one, value] : rows)
    if (one == name) return value;
  ADD_FAILURE() << "no row " << name;
  return 0;
}

TEST(Plan, AddsUpWhatARankDoes) {
  const auto config = small();
  const auto P = static_cast<double>(parameter_count(config.model));
  Speeds speeds;
  speeds.block = 1e-3, speeds.rest = 2e-3, speeds.optimizer = 1e-6, speeds.wire = 1e6;
  const auto plan = make_plan(config, 4, 1000, speeds, /*on_device=*/false);
  EXPECT_EQ(plan.step_tokens, 2 * 8 * 16);
  // 2 rows of 16 tokens each, 2 layers, twice.
  EXPECT_DOUBLE_EQ(part(plan.time, "blocks"), 2 * 32 * 2 * 1e-3);
  EXPECT_DOUBLE_EQ(part(plan.time, "embedding, head and loss"), 2 * 32 * 2e-3);
  EXPECT_DOUBLE_EQ(part(plan.time, "optimizer"), 1e-6 * P / 4);
  EXPECT_DOUBLE_EQ(plan.wire_bytes, (2 * 0.75 + 0.75) * 4 * P);
  EXPECT_DOUBLE_EQ(part(plan.time, "waiting for sums"), plan.wire_bytes / 1e6);
  EXPECT_DOUBLE_EQ(part(plan.memory, "moments"), 8 * P / 4);
  EXPECT_NEAR(plan.efficiency, 1 - plan.wire_bytes / 1e6 / plan.step_seconds, 1e-12);
  EXPECT_DOUBLE_EQ(plan.seconds(), 1000 * plan.step_seconds / 256);
}

TEST(Plan, HidesSumsBehindTheBackwardPassAsFarAsItGoes) {
  const auto config = small();
  Speeds speeds;
  speeds.block = 1, speeds.wire = 1e9, speeds.overlap = 1;
  const auto plan = make_plan(config, 2, 1, speeds, false);
  const auto P = static_cast<double>(parameter_count(config.model));
  EXPECT_DOUBLE_EQ(part(plan.time, "waiting for sums"), 0.5 * 4 * P / 1e9);  // the new weights
  EXPECT_EQ(make_plan(config, 1, 1, speeds, false).wire_bytes, 0);
}

TEST(Plan, NamesWhatCannotBe) {
  EXPECT_THAT([] { find_accelerator("h10", "--gpu"); },
              testing::ThrowsMessage<ConfigError>(testing::HasSubstr("\"h100\"")));
  EXPECT_THAT([] { make_plan(small(), 9, 1, {}, false); },
              testing::ThrowsMessage<ConfigError>(testing::HasSubstr("train.batch_size")));
}

TEST(Plan, ALargerShareOfThePeakForWiderModels) {
  const auto share = [](std::int64_t layers, std::int64_t width, const char* core = "rwkv4") {
    TrainConfig config;
    config.model.core = core;
    config.model.n_layer = layers, config.model.n_embd = width, config.model.vocab_size = 50304;
    config.train.ctx_len = 1024, config.train.batch_size = 8, config.train.grad_accum_steps = 4;
    const auto& kind = find_accelerator("h100", "");
    const auto plan = make_plan(config, 1, 1, estimated_speeds(kind, config, 1), true);
    return plan.flops * plan.tokens_per_second() / kind.flops;
  };
  EXPECT_LT(share(12, 768), share(24, 2048));
  EXPECT_LT(share(24, 2048), 0.5);
  // The recurrence stays in registers.
  EXPECT_LT(share(12, 768, "rwkv7"), share(12, 768));
  EXPECT_GT(share(12, 768, "rwkv7"), share(12, 768) / 4);
}

TEST(Plan, MeasuresThisMachine) {
  const auto config = small();
  const auto speeds = measured_speeds(config, 2);
  EXPECT_GT(speeds.block, 0);
  EXPECT_GT(speeds.optimizer, 0);
  EXPECT_GT(speeds.wire, 0);
  EXPECT_GT(make_plan(config, 2, 1, speeds, false).tokens_per_second(), 0);
}

}  // namespace
}  // namespace rwkvx
