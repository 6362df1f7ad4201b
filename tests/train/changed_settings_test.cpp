#include "train/changed_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "support/tiny_training.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using test::failure;
using test::log_lines;
using test::quiet;
using test::resuming;
using test::text_file;
using test::tiny;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TrainConfig stopped(const ScratchDirectory& folder) {
  const auto config = tiny(folder);
  auto options = quiet();
  options.stop_after = 7;
  train(config, options);
  return config;
}

TEST(ChangedSettings, WhatWouldMakeTheStateWrongIsRefusedByName) {
  const ScratchDirectory folder;
  const auto config = stopped(folder);
  const auto refused = [&](const std::string& name, const auto& change) {
    auto changed = config;
    change(changed);
    EXPECT_THAT(failure(changed, resuming()),
                AllOf(HasSubstr(name + ": was "), HasSubstr("a resumed run cannot change it"),
                      HasSubstr("train.init_from = " + config.train.output)));
  };
  refused("train.seed", [](auto& c) { c.train.seed = 2; });
  refused("train.ctx_len", [](auto& c) { c.train.ctx_len = 8; });
  refused("train.batch_size", [](auto& c) { c.train.batch_size = 3; });
  refused("train.grad_accum_steps", [](auto& c) { c.train.grad_accum_steps = 1; });
  auto other = config;
  other.data.train = {text_file(folder, "other.txt", test::corpus() + "More.\n")};
  EXPECT_THAT(failure(other, resuming()),
              AllOf(HasSubstr("data.train: is another text"), HasSubstr("train.init_from")));
  // The run is as it was: the first settings still resume it.
  EXPECT_TRUE(train(config, resuming()).finished);
}

TEST(ChangedSettings, WhatCanChangeIsSaidWithBothValuesAndTaken) {
  const ScratchDirectory folder;
  auto config = stopped(folder);
  config.train.learning_rate = 2e-3;
  config.train.max_steps = 30;
  config.train.log_every = 1;
  testing::internal::CaptureStderr();
  const auto result = train(config, resuming());
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("warning: "), HasSubstr("train.learning_rate 0.005 -> 0.002"),
                    HasSubstr("train.max_steps 24 -> 30"), HasSubstr("train.log_every 4 -> 1"),
                    Not(HasSubstr("train.seed"))));
  EXPECT_TRUE(result.finished);
  EXPECT_EQ(result.step, 30);
}

TEST(ChangedSettings, UnchangedOnesAreNotMentioned) {
  const ScratchDirectory folder;
  const auto config = stopped(folder);
  testing::internal::CaptureStderr();
  train(config, resuming());
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(ChangedSettings, ThePlaceOfTheSameTextMayChange) {
  const ScratchDirectory folder;
  auto config = stopped(folder);
  config.data.train = {text_file(folder, "moved.txt", test::corpus())};
  EXPECT_TRUE(train(config, resuming()).finished);
}

TEST(ChangedSettings, TheBestLossIsComparedOnTheSameValidationOnly) {
  const ScratchDirectory folder;
  auto config = stopped(folder);
  config.train.eval_tokens = 64;
  testing::internal::CaptureStderr();
  auto options = resuming();
  options.stop_after = 5;
  train(config, options);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("eval_tokens"), HasSubstr("is not compared")));
  const auto last = [&] {
    nlohmann::json found;
    for (const auto& line : log_lines(config))
      if (line.contains("valid_loss")) found = line;
    return found;
  };
  EXPECT_EQ(last()["step"], 12);
  EXPECT_EQ(last()["best"], true);
  // Said once: from here on it is the same validation.
  testing::internal::CaptureStderr();
  train(config, resuming());
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(ChangedSettings, AStateWithoutTokensHasThoseOfItsSteps) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  train(config, quiet());
  const auto straight = log_lines(config);
  fs::remove_all(config.train.output);
  config = stopped(folder);
  // As earlier versions wrote it; the checksum goes with it.
  const auto checkpoint = *latest_checkpoint(config.train.output);
  const auto path = checkpoint / "trainer" / "state.json";
  auto state = nlohmann::json::parse(read_file(path));
  for (const char* name : {"trained_tokens", "next_batch", "best_of"}) {
    EXPECT_TRUE(state.contains(name)) << name;
    state.erase(name);
  }
  write_file(path, state.dump());
  auto sums = nlohmann::json::parse(read_file(checkpoint / kChecksumsFile));
  sums["files"]["trainer/state.json"] = {{"size", state.dump().size()},
                                         {"xxh3_128", hash_bytes(state.dump())}};
  sums["xxh3_128"] = hash_bytes(sums["files"].dump());
  write_file(checkpoint / kChecksumsFile, sums.dump());
  testing::internal::CaptureStderr();
  train(config, resuming());
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  const auto resumed = log_lines(config);
  EXPECT_EQ(resumed.back()["tokens"], straight.back()["tokens"]);
  EXPECT_EQ(resumed.back()["valid_loss"], straight.back()["valid_loss"]);
}

TEST(TrainerBudget, TokensEndARunAndAreCounted) {
  const ScratchDirectory folder;
  auto config = tiny(folder);
  config.train.max_steps = 0;
  config.train.max_tokens = 9 * 2 * 4 * 16 + 1;
  const auto result = train(config, quiet());
  EXPECT_TRUE(result.finished);
  EXPECT_EQ(result.step, 10);
  EXPECT_EQ(log_lines(config).back()["tokens"], 10 * 2 * 4 * 16);
}

}  // namespace
}  // namespace rwkvx
