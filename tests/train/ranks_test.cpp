// Several processes that train together, as a launcher starts them.
#include "support/ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "support/tiny_training.h"
#include "train/ranks.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using test::contents;

class RanksTrain : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Ranks::built()) GTEST_SKIP() << "built without Gloo's headers";
  }
  RanksTrain() {
    std::string pairs;
    for (int i = 0; i < 60; ++i)
      pairs += json{{"prompt", "say " + std::to_string(i % 7)},
                    {"response", std::string(static_cast<std::size_t>(1 + i % 5), 'x')}}
                   .dump() +
               "\n";
    write_file(scratch_ / "text.txt", test::corpus());
    write_file(scratch_ / "pairs.jsonl", pairs);
    config_ = {{"model", {{"n_layer", 3}, {"n_embd", 64}, {"shift", {{"kind", "gps"}}}}},
               {"tokenizer", {{"kind", "byte"}}},
               {"data", {{"train", (scratch_ / "text.txt").string()}}},
               {"train",
                {{"ctx_len", 16},
                 {"batch_size", 4},
                 {"max_steps", 12},
                 {"learning_rate", 5e-4},
                 {"warmup_steps", 2},
                 {"eval_every", 6},
                 {"eval_tokens", 512},
                 {"save_every", 6},
                 {"log_every", 1},
                 {"threads", 1},
                 {"timeout", 60},
                 {"device", "cpu"}}}};
  }
  std::string path(const std::string& name) const { return (scratch_ / name).string(); }
  std::vector<std::string> args(const std::string& output,
                                const std::vector<std::string>& flags = {}) const {
    write_file(path("config.json"), config_.dump());
    std::vector<std::string> all = {"train",    "--config",   path("config.json"),
                                    "--output", path(output), "--quiet"};
    all.insert(all.end(), flags.begin(), flags.end());
    return all;
  }
  // Trains to the end.
  void train(int ranks, const std::string& output, const std::vector<std::string>& flags = {}) {
    if (ranks == 1) {
      const auto result = run_program(args(output, flags));
      EXPECT_EQ(result.status, 0) << result.err;
      return;
    }
    for (const auto& result : RankJob(ranks, args(output, flags)).results()) {
      EXPECT_EQ(result.status, 0) << result.err;
      EXPECT_THAT(result.err, testing::Not(testing::HasSubstr("error")));
    }
  }
  std::vector<json> log(const std::string& output) const {
    TrainConfig config;
    config.train.output = path(output);
    return test::log_lines(config);
  }
  // All losses of two runs, relative.
  void expect_same_losses(const std::string& a, const std::string& b, double tolerance) const {
    const auto first = log(a), second = log(b);
    ASSERT_EQ(first.size(), second.size());
    for (std::size_t i = 0; i < first.size(); ++i)
      for (const char* name : {"loss", "valid_loss"})
        if (first[i].contains(name)) {
          const double wanted = first[i][name], found = second[i].value(name, 0.0);
          EXPECT_NEAR(found, wanted, tolerance * wanted) << b << ", step " << first[i]["step"];
        }
  }
  void wait_for_log(const std::string& output, std::size_t lines) const {
    for (int i = 0; i < 3000; ++i) {
      if (std::filesystem::exists(path(output) + "/log.jsonl") && log(output).size() >= lines)
        return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << "the run does not begin";
  }
  ScratchDirectory scratch_;
  json config_;
};

TEST_F(RanksTrain, HaveTheLossesOfOneProcess) {
  config_["train"]["grad_accum_steps"] = 2;
  train(1, "one");
  train(3, "three");  // of 8 sequences
  expect_same_losses("one", "three", 1e-6);
}

TEST_F(RanksTrain, HaveTheLossesOfOneProcessOnPairsWithRwkv7) {
  config_["model"] = {{"core", "rwkv7"},
                      {"n_layer", 2},
                      {"n_embd", 32},
                      {"head_size", 16},
                      {"shift", {{"kind", "none"}}}};
  config_["data"] = {{"train", path("pairs.jsonl")}, {"format", "pairs"}};
  train(1, "one");
  train(2, "two");
  expect_same_losses("one", "two", 1e-6);
}

TEST_F(RanksTrain, ACheckpointOfThreeResumesWithOneAndTwo) {
  train(1, "whole");
  train(3, "part", {"--stop-after", "7"});
  for (const int ranks : {1, 2}) {
    const auto output = "part" + std::to_string(ranks);
    std::filesystem::copy(path("part"), path(output), std::filesystem::copy_options::recursive);
    train(ranks, output, {"--resume"});
    expect_same_losses("whole", output, 1e-6);
  }
}

TEST_F(RanksTrain, SharedOutMomentsAreThoseOfEach) {
  config_["train"]["optimizer"] = "muon";
  config_["train"]["ema_decay"] = 0.9;
  train(2, "shared");
  config_["train"]["shard_optimizer"] = false;
  train(2, "whole");
  for (const char* name : {"model.safetensors", "trainer/moments.safetensors",
                           "trainer/ema.safetensors", "trainer/state.json"}) {
    const auto place = std::string("/checkpoints/step-00000012/") + name;
    EXPECT_TRUE(read_file(path("shared") + place) == read_file(path("whole") + place)) << name;
  }
}

TEST_F(RanksTrain, AKilledRankIsNamedAndEndsAllAndTheRunResumes) {
  config_["train"]["max_steps"] = 100000;
  const RankJob job(2, args("run"));
  wait_for_log("run", 20);
  job[1].signal(SIGKILL);
  const auto results = job.results();
  EXPECT_EQ(results[0].status, 1);
  EXPECT_THAT(results[0].err, testing::StartsWith("rwkvx: error: rank 1 (process "));
  EXPECT_EQ(std::count(results[0].err.begin(), results[0].err.end(), '\n'), 1) << results[0].err;
  config_["train"]["max_steps"] = 30;
  train(2, "run", {"--resume"});
}

TEST_F(RanksTrain, AStoppedRankIsNamedAndEndsAllWithinTheTimeout) {
  config_["train"]["max_steps"] = 100000;
  config_["train"]["timeout"] = 2;
  const RankJob job(3, args("run"));
  wait_for_log("run", 2);
  job[2].signal(SIGSTOP);
  const auto begin = std::chrono::steady_clock::now();
  const auto first = job[0].result(), second = job[1].result();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(4));
  EXPECT_EQ(first.status, 1);
  EXPECT_EQ(second.status, 1);
  EXPECT_THAT(first.err, testing::StartsWith("rwkvx: error: rank 2 (process "));
  EXPECT_THAT(first.err, testing::HasSubstr("has not answered for "));
  EXPECT_EQ(second.err, "");  // one line says it
  job[2].signal(SIGKILL);
  job[2].result();
}

TEST_F(RanksTrain, ASignalToOneRankSavesAndEndsAll) {
  config_["train"]["max_steps"] = 100000;
  config_["train"]["save_every"] = 0;
  const RankJob job(2, args("run"));
  wait_for_log("run", 3);
  job[1].signal(SIGTERM);
  for (const auto& result : job.results()) {
    EXPECT_EQ(result.status, 128 + SIGTERM);
    EXPECT_EQ(result.err, "");
  }
  const auto last = log("run").back()["step"].get<std::int64_t>();
  EXPECT_TRUE(std::filesystem::exists(path("run") + "/checkpoints/" + step_name(last)));
}

TEST_F(RanksTrain, RefusalsAreSaidOnce) {
  const auto refused = [&](int ranks, const std::vector<std::string>& flags,
                           const std::vector<std::pair<int, std::vector<std::string>>>& more = {}) {
    std::string lines;
    for (const auto& result : RankJob(ranks, args("refused", flags), more).results()) {
      EXPECT_NE(result.status, 0);
      lines += result.err;
    }
    EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 1) << lines;
    return lines;
  };
  EXPECT_THAT(refused(3, {"--set", "train.batch_size=2"}),
              testing::HasSubstr("train.batch_size: 2 sequences of a step"));
  EXPECT_THAT(refused(2, {"--set", "data.train=[\"missing.txt\"]"}),
              testing::HasSubstr("missing.txt"));
  EXPECT_THAT(refused(2, {}, {{1, {"--set", "train.seed=7"}}}),
              testing::HasSubstr("rank 1: has other settings"));
}

}  // namespace
}  // namespace rwkvx
