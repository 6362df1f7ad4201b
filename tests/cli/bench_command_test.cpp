// The command bench, run as a user runs it. What it measures is not looked at, only what it says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/program.h"

namespace rwkvx {
namespace {

const std::vector<std::string> kSmallModel = {"--set",        "model.n_layer=1",
                                              "--set",        "model.n_embd=16",
                                              "--set",        "model.vocab_size=32",
                                              "--ctx-len",    "16",
                                              "--batch-size", "2",
                                              "--rounds",     "1"};

std::vector<std::string> bench_train(const std::vector<std::string>& more) {
  std::vector<std::string> args = {"bench", "train"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

TEST(BenchCommand, TrainMeasuresBaselineEnhancedAndMatrixProducts) {
  ScratchDirectory scratch;
  const std::string config = scratch / "config.json";
  std::ofstream(config) << R"({"data": {"train": ["unused.txt"]}})";
  auto args = bench_train({"--config", config, "--load", "1", "--json"});
  args.insert(args.end(), kSmallModel.begin(), kSmallModel.end());
  const auto result = run_program(args);
  ASSERT_EQ(result.status, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  ASSERT_EQ(json["series"].size(), 3U);
  EXPECT_EQ(json["load"], 1);
  EXPECT_NE(json["threads_used"], "");
  EXPECT_NE(json["instruction_set"], "");
  for (const auto& one : json["series"]) {
    EXPECT_GT(one["tokens_per_second"], 0);
    if (one["kind"] != "matrix_products") {
      EXPECT_GT(one["peak_memory_bytes"], 1 << 20);
      EXPECT_TRUE(one["operators"].contains("shift_mix"));
    }
  }
  EXPECT_TRUE(json["ratios"].contains("enhanced time / baseline time"));
}

TEST(BenchCommand, UnknownNamesAreRefusedWithTheNearest) {
  expect_refused(run_program(bench_train({"--shape", "tinny"})), 2, "tiny");
  expect_refused(run_program(bench_train({"--only", "base-line"})), 2, "baseline");
}

}  // namespace
}  // namespace rwkvx
