// What a training run shows and leaves for those who watch it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rwkvx/base/files.h"
#include "support/program.h"
#include "support/tiny_run.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

class WatchedRun : public TinyRun {};

TEST_F(WatchedRun, GatesAreLoggedAtEachValidationWhereAskedFor) {
  const auto result = run_program(train_args({"--set", "train.watch_gates=true", "--quiet"}));
  ASSERT_EQ(result.status, 0) << result.err;
  std::ifstream log(path("run/log.jsonl"));
  int validations = 0;
  for (std::string line; std::getline(log, line);) {
    const auto one = json::parse(line);
    EXPECT_EQ(one.contains("gates"), one.contains("valid_loss"));
    if (!one.contains("gates")) continue;
    ++validations;
    ASSERT_EQ(one["gates"].size(), 4u);  // two blocks of two sites
    for (const auto& site : one["gates"]) {
      EXPECT_LE(0, site["min"]);
      EXPECT_LE(site["min"], site["mean"]);
      EXPECT_LE(site["mean"], site["max"]);
      EXPECT_LE(site["max"], 1);
      EXPECT_GE(site["added"], 0);
    }
  }
  EXPECT_EQ(validations, 2);
  ASSERT_EQ(run_program({"plot", path("run")}).status, 0);
  EXPECT_THAT(read_file(path("run/plot.html")), HasSubstr("blocks.1.ffn"));
}

TEST_F(WatchedRun, WatchingChangesNothingElse) {
  const auto losses = [&](const std::vector<std::string>& flags) {
    auto args = train_args(flags);
    args.insert(args.end(), {"--overwrite", "--quiet"});
    const auto result = run_program(args);
    EXPECT_EQ(result.status, 0) << result.err;
    std::ifstream log(path("run/log.jsonl"));
    std::string text;
    for (std::string line; std::getline(log, line);) {
      auto one = json::parse(line);
      for (const char* field : {"gates", "tokens_per_second", "peak_memory_bytes"})
        one.erase(field);
      text += one.dump() + "\n";
    }
    return text + hash_file(path("run/checkpoints/best/model.safetensors"));
  };
  const auto plain = losses({});
  EXPECT_EQ(losses({"--set", "train.watch_gates=true", "--set", "train.tensorboard=true"}), plain);
  EXPECT_TRUE(fs::exists(path("run/tensorboard")));
  EXPECT_EQ(losses({}), plain);
  EXPECT_FALSE(fs::exists(path("run/tensorboard")));  // an earlier run's events go with it
}

TEST_F(WatchedRun, AResumedRunBeginsAnotherEventFile) {
  const std::vector<std::string> on = {"--set", "train.tensorboard=true", "--quiet"};
  auto first = on, second = on;
  first.insert(first.end(), {"--stop-after", "6"});
  second.push_back("--resume");
  ASSERT_EQ(run_program(train_args(first)).status, 0);
  ASSERT_EQ(run_program(train_args(second)).status, 0);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path("run/tensorboard")))
    files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  ASSERT_EQ(files.size(), 2u);
  const std::string start{"\x10\x07\x3a\x02\x08\x01", 6};  // step 7, SessionLog START
  EXPECT_EQ(read_file(files[0]).find(start), std::string::npos);
  EXPECT_NE(read_file(files[1]).find(start), std::string::npos);
}

TEST_F(WatchedRun, TrainingEndsWithASummary) {
  const auto result = run_program(train_args({}));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("768 tokens in "), HasSubstr(" tokens/s with validation and saving"),
                    HasSubstr("best validation loss "), HasSubstr("checkpoints/best")));
}

}  // namespace
}  // namespace rwkvx
