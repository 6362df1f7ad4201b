// Resuming with each feature on, and what the features leave in a run's folder.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "rwkvx/checkpoint/checkpoint_config.h"
#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "support/tiny_training.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using test::expect_resume_gives_the_same_bytes;
using test::failure;
using test::log_lines;
using test::quiet;
using test::resuming;
using test::tiny;
using testing::HasSubstr;

// Log lines without what no two runs share.
std::vector<nlohmann::json> lines_of(const TrainConfig& config) {
  auto lines = log_lines(config);
  for (auto& line : lines)
    for (const char* name : {"tokens_per_second", "peak_memory_bytes", "loss"}) line.erase(name);
  return lines;
}

TEST(Resume, IsBitExactWithMuon) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.optimizer = OptimizerKind::kMuon;
  expect_resume_gives_the_same_bytes(config);
}

TEST(Resume, IsBitExactWithEightBitMoments) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.moments = MomentType::kInt8;
  config.model.n_embd = 32;
  expect_resume_gives_the_same_bytes(config);
}

TEST(Resume, IsBitExactWithAverages) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.ema_decay = 0.9;
  expect_resume_gives_the_same_bytes(config);
}

TEST(Resume, IsBitExactWithABudgetInTokensAndWsd) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.max_steps = 0;
  config.train.max_tokens = 24 * 2 * 4 * 16;
  config.train.warmup_tokens = 4 * 2 * 4 * 16;
  config.train.lr_schedule = Schedule::kWsd;
  expect_resume_gives_the_same_bytes(config);
}

TEST(Resume, RefusesAnotherOptimizer) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  auto options = quiet();
  options.stop_after = 2;
  train(config, options);
  config.train.optimizer = OptimizerKind::kMuon;
  EXPECT_THAT(failure(config, resuming()), HasSubstr("train.optimizer: was \"adamw\" in "));
}

TEST(Muon, LowersTheLossOfATraining) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.optimizer = OptimizerKind::kMuon;
  EXPECT_LT(train(config, quiet()).valid_loss, std::log(257.0) - 1.5);
}

TEST(Moments, InEightBitsTrainAlmostAlike) {
  const ScratchDirectory folder;
  auto wide = tiny(folder, "wide"), narrow = tiny(folder, "narrow");
  for (auto* config : {&wide, &narrow}) {
    config->model.n_embd = 64;
    config->train.max_steps = 60;
    config->train.eval_every = config->train.save_every = 0;
  }
  narrow.train.moments = MomentType::kInt8;
  const double a = train(wide, quiet()).valid_loss, b = train(narrow, quiet()).valid_loss;
  EXPECT_LT(a, 2.5);
  EXPECT_NEAR(a, b, 0.05);
}

TEST(Averages, AreValidatedBesideTheWeightsAndKept) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.ema_decay = 0.5;
  const auto result = train(config, quiet());
  double best = std::numeric_limits<double>::infinity();
  std::string kept;
  for (const auto& line : log_lines(config)) {
    if (!line.contains("valid_loss")) continue;
    ASSERT_TRUE(line.contains("ema_valid_loss"));
    const double raw = line["valid_loss"], averaged = line["ema_valid_loss"];
    EXPECT_EQ(line["best"], std::min(raw, averaged) < best);
    if (std::min(raw, averaged) >= best) continue;
    best = std::min(raw, averaged);
    kept = averaged < raw ? "ema" : "raw";
  }
  EXPECT_EQ(result.best_valid_loss, best);
  const auto checkpoints = fs::path(config.train.output) / "checkpoints";
  const auto provenance = [&](const char* name) {
    return read_checkpoint_config(open_checkpoint(checkpoints / name).path).document["provenance"];
  };
  EXPECT_EQ(provenance("best")["weights"], kept);
  EXPECT_EQ(provenance("best")["valid_loss"], best);
  EXPECT_EQ(provenance("ema")["weights"], "ema");
  EXPECT_EQ(provenance("ema")["step"], 24);
  EXPECT_NE(read_file(checkpoints / "ema" / kWeightsFile),
            read_file(checkpoints / step_name(24) / kWeightsFile));
}

TEST(Averages, MayBeginAtAResume) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  auto options = quiet();
  options.stop_after = 7;
  train(config, options);
  config.train.ema_decay = 0.9;
  testing::internal::CaptureStderr();
  EXPECT_TRUE(train(config, resuming()).finished);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              testing::AllOf(HasSubstr("train.ema_decay 0.0 -> 0.9"),
                             HasSubstr("holds no averages, so they begin with its weights")));
}

// A training in which some steps count as spikes: a batch's gradient differs from another's.
TrainConfig spiking(const ScratchDirectory& folder, OnSpike on_spike) {
  auto config = tiny(folder);
  config.train.on_spike = on_spike;
  config.train.spike_zscore = 1;
  config.train.learning_rate = config.train.final_learning_rate = 1e-4;  // losses stay as they are
  config.train.spike_window = 8;
  config.train.max_guards = 200;
  config.train.log_every = 1;
  return config;
}

std::vector<nlohmann::json> guard_lines(const TrainConfig& config) {
  std::vector<nlohmann::json> lines;
  for (const auto& line : log_lines(config))
    if (line.contains("guard")) lines.push_back(line);
  return lines;
}

TEST(Guards, SkipAStepAndGoOnWithTheNextBatches) {
  const ScratchDirectory folder;
  const auto config = spiking(folder, OnSpike::kSkip);
  testing::internal::CaptureStderr();
  EXPECT_EQ(train(config, quiet()).step, 24);
  const auto told = testing::internal::GetCapturedStderr();
  const auto lines = guard_lines(config);
  ASSERT_GE(lines.size(), 1u);
  EXPECT_EQ(lines[0]["guard"], "skip");
  EXPECT_THAT(lines[0]["reason"].get<std::string>(),
              HasSubstr("standard deviations above the mean of the last 8 steps"));
  EXPECT_THAT(told, HasSubstr("warning: step " + lines[0]["step"].dump() + ": the "));
  EXPECT_THAT(told, HasSubstr("; skipped (guard 1 of 200)"));
  std::set<std::int64_t> batches;
  for (const auto& line : lines) batches.insert(line["batch"].get<std::int64_t>());
  EXPECT_EQ(batches.size(), lines.size());  // no batch comes twice
  const auto state = nlohmann::json::parse(read_file(fs::path(config.train.output) / "checkpoints" /
                                                     step_name(24) / "trainer/state.json"));
  EXPECT_EQ(state["next_batch"], 2 * (24 + lines.size()));
  EXPECT_EQ(state["trained_tokens"], 24 * 2 * 4 * 16);
  EXPECT_EQ(state["guard"]["used"], lines.size());
}

TEST(Guards, RollBackToTheLastGoodCheckpoint) {
  const ScratchDirectory folder;
  auto config = spiking(folder, OnSpike::kRollback);
  config.train.save_every = 3;
  testing::internal::CaptureStderr();
  EXPECT_EQ(train(config, quiet()).step, 24);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr(": the "));
  const auto lines = guard_lines(config);
  ASSERT_GE(lines.size(), 1u);
  EXPECT_EQ(lines[0]["guard"], "rollback");
  EXPECT_EQ(lines[0]["to_step"].get<std::int64_t>() % 3, 0);
  // The log holds the steps that led to the weights, each once and in order.
  std::vector<std::int64_t> steps;
  for (const auto& line : log_lines(config))
    if (line.contains("loss")) steps.push_back(line["step"]);
  ASSERT_EQ(steps.size(), 24u);
  for (std::size_t i = 0; i < steps.size(); ++i)
    EXPECT_EQ(steps[i], static_cast<std::int64_t>(i) + 1);
}

TEST(Guards, EndTheRunAfterTheirNumber) {
  const ScratchDirectory folder;
  auto config = spiking(folder, OnSpike::kSkip);
  config.train.max_guards = 0;
  EXPECT_THAT(failure(config, quiet()),
              testing::AllOf(HasSubstr("standard deviations above"),
                             HasSubstr("train.max_guards = 0 steps were skipped"),
                             HasSubstr("last good checkpoint: ")));
  config.train.output += "-2";
  config.train.on_spike = OnSpike::kStop;
  EXPECT_THAT(failure(config, quiet()), HasSubstr("standard deviations above"));
}

TEST(Guards, CatchValuesThatAreNotFinite) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  auto& t = config.train;
  t.learning_rate = t.final_learning_rate = 10;
  t.grad_clip = 0;
  t.weight_decay = 10;
  t.shift_lr_scale = 1000;
  t.max_steps = 400;
  t.warmup_steps = 0;
  t.save_every = 1;
  t.eval_every = 0;
  t.on_spike = OnSpike::kRollback;
  t.max_guards = 3;
  const auto message = failure(config, quiet());
  if (message == "no error") GTEST_SKIP() << "this model survives every rate";
  EXPECT_THAT(message, HasSubstr("finite"));
}

TEST(Resume, IsBitExactWithGuards) {
  for (const auto on_spike : {OnSpike::kSkip, OnSpike::kRollback}) {
    const ScratchDirectory folder;
    auto config = spiking(folder, on_spike);
    config.train.save_every = 3;
    config.train.keep_last = 1;
    expect_resume_gives_the_same_bytes(config);
    const auto resumed = lines_of(config);
    EXPECT_GE(guard_lines(config).size(), 1u);
    fs::remove_all(config.train.output);
    train(config, quiet());
    EXPECT_EQ(lines_of(config), resumed);
  }
}

}  // namespace
}  // namespace rwkvx
