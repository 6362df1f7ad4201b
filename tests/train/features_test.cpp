// Resuming with each feature on, and what the features leave in a run's folder.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "rwkvx/checkpoint/checkpoint_config.h"
#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "support/tiny_training.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using test::contents;
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

// One run, and the same in pieces, which end between two saves: the same bytes.
void expect_bit_exact_resume(const ScratchDirectory& folder, const TrainConfig& config) {
  train(config, quiet());
  const auto checkpoint = fs::path(config.train.output) / "checkpoints" / step_name(24);
  const auto wanted = contents(checkpoint);
  fs::remove_all(config.train.output);
  auto options = quiet();
  options.stop_after = 11;
  train(config, options);
  options.resume = true;
  options.stop_after = 1;
  train(config, options);
  options.stop_after = 0;
  EXPECT_TRUE(train(config, options).finished);
  const auto found = contents(checkpoint);
  EXPECT_EQ(wanted.size(), found.size());
  for (const auto& [name, bytes] : wanted)
    EXPECT_TRUE(found.contains(name) && found.at(name) == bytes) << name << " differs";
  (void)folder;
}

TEST(Resume, IsBitExactWithMuon) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.optimizer = OptimizerKind::kMuon;
  expect_bit_exact_resume(folder, config);
}

TEST(Resume, IsBitExactWithEightBitMoments) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.moments = MomentType::kInt8;
  config.model.n_embd = 32;
  expect_bit_exact_resume(folder, config);
}

TEST(Resume, IsBitExactWithAverages) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.ema_decay = 0.9;
  expect_bit_exact_resume(folder, config);
}

TEST(Resume, IsBitExactWithABudgetInTokensAndWsd) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.max_steps = 0;
  config.train.max_tokens = 24 * 2 * 4 * 16;
  config.train.warmup_tokens = 4 * 2 * 4 * 16;
  config.train.lr_schedule = Schedule::kWsd;
  expect_bit_exact_resume(folder, config);
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

}  // namespace
}  // namespace rwkvx
