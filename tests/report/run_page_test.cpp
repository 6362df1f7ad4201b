// The logs of runs, as anybody may have written them, and the page that shows them.
#include "rwkvx/report/run_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/output_file.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class RunLogs : public ::testing::Test {
 protected:
  std::string run(const std::string& name, const std::string& log) const {
    const auto folder = scratch_.path() / name;
    std::filesystem::create_directories(folder);
    write_file(folder / "log.jsonl", log);
    return folder.string();
  }
  void append(const std::string& run, const std::string& text) const {
    std::ofstream(run + "/log.jsonl", std::ios::app) << text;
  }
  static std::string step(std::int64_t step, double loss) {
    return "{\"step\":" + std::to_string(step) + ",\"tokens\":" + std::to_string(step * 100) +
           ",\"loss\":" + std::to_string(loss) + ",\"learning_rate\":0.001}\n";
  }
  static std::string validation(std::int64_t step, double loss) {
    return "{\"step\":" + std::to_string(step) + ",\"valid_loss\":" + std::to_string(loss) +
           ",\"best\":true}\n";
  }
  static RunLog read(const std::string& run) {
    RunLog log(run);
    log.read();
    return log;
  }
  static std::string page(const std::vector<std::string>& runs,
                          const RunPageOptions& options = {}) {
    std::vector<RunLog> logs;
    for (const auto& run : runs) logs.push_back(read(run));
    return run_page(logs, options);
  }
  ScratchDirectory scratch_;
};

TEST_F(RunLogs, ReadsNumbersByTheirFields) {
  const auto log = read(run("a", step(10, 5) + step(20, 4) + validation(20, 4.5)));
  ASSERT_NE(log.find("loss"), nullptr);
  ASSERT_EQ(log.find("loss")->points().size(), 2U);
  EXPECT_EQ(log.find("loss")->points()[1].tokens, 2000);
  EXPECT_EQ(log.find("loss")->last(), 4);
  EXPECT_EQ(log.best_valid_loss(), 4.5);
  EXPECT_EQ(log.best_step(), 20);
  EXPECT_EQ(log.find("best"), nullptr);
  EXPECT_EQ(log.skipped(), 0);
}

TEST_F(RunLogs, LeavesAnUnfinishedLineForLater) {
  const auto directory = run("a", step(10, 5) + "{\"step\":20,\"lo");
  RunLog log(directory);
  EXPECT_TRUE(log.read());
  EXPECT_EQ(log.last_step(), 10);
  EXPECT_FALSE(log.read());  // nothing came
  append(directory, "ss\":4}\n" + step(30, 3));
  EXPECT_TRUE(log.read());
  EXPECT_EQ(log.last_step(), 30);
  EXPECT_EQ(log.find("loss")->points().size(), 3U);
  EXPECT_EQ(log.skipped(), 0);
}

TEST_F(RunLogs, ARunThatStartsAgainIsReadAgain) {
  const auto directory = run("a", step(10, 5) + step(20, 4) + step(30, 3));
  RunLog log(directory);
  log.read();
  write_file(directory + "/log.jsonl", step(10, 7));
  EXPECT_TRUE(log.read());
  EXPECT_EQ(log.last_step(), 10);
  EXPECT_EQ(log.find("loss")->last(), 7);
}

TEST_F(RunLogs, StepsThatWereTakenAgainReplaceTheFirstOnes) {
  const auto log = read(run("a", step(10, 5) + step(20, 4) + validation(20, 1) + step(30, 9) +
                                     step(20, 3) + validation(20, 2)));
  ASSERT_EQ(log.find("loss")->points().size(), 2U);
  EXPECT_EQ(log.find("loss")->points()[1].mean(), 3);
  EXPECT_EQ(log.best_valid_loss(), 2);
}

TEST_F(RunLogs, SkipsAndCountsWhatIsNoLineOfARun) {
  const std::string bad =
      std::string("\xff\xfe\0\n", 4) + "[1,2]\n{\"step\":\"x\"}\n{\"step\":-1}\n" +
      "{\"step\":1.5,\"loss\":1}\n{\"step\":1e300,\"loss\":1}\n\n" +
      "{\"loss\":3}\n{\"step\":5,\"loss\":1\n" + std::string(2 << 20, '{') + "\n";
  const auto log =
      read(run("a", step(10, 5) + bad + "{\"step\":11,\"loss\":null,\"x\":\"y\"}\n" +
                        "{\"step\":12,\"gates\":[1]}\n{\"step\":13,\"gates\":{\"a\":2}}\n"));
  EXPECT_EQ(log.lines(), 14);
  EXPECT_EQ(log.skipped(), 10);
  EXPECT_EQ(log.find("loss")->points().size(), 1U);
  EXPECT_NO_THROW(log.check());
  EXPECT_THAT(run_page({log}, {}), HasSubstr("10 of 14 lines"));
}

TEST_F(RunLogs, RefusesWhatIsNoRun) {
  EXPECT_THROW(RunLog((scratch_.path() / "none").string()), FileError);
  write_file(scratch_ / "file", "");
  EXPECT_THROW(RunLog((scratch_ / "file")), FileError);
  std::filesystem::create_directories(scratch_.path() / "bare");
  EXPECT_THROW(read((scratch_.path() / "bare").string()).check(), FileError);
  EXPECT_THROW(read(run("empty", "")).check(), DataError);
  EXPECT_THROW(read(run("other", "{\"prompt\":\"a\"}\n[]\n")).check(), DataError);
  std::filesystem::create_directories(scratch_.path() / "folder/log.jsonl");
  EXPECT_THROW(read((scratch_.path() / "folder").string()), FileError);
}

TEST_F(RunLogs, LongCurvesStaySmallAndKeepTheirRange) {
  std::string text;
  for (int i = 1; i <= 20000; ++i) text += step(i, i == 7777 ? 50 : 2);
  const auto log = read(run("a", text));
  const auto& points = log.find("loss")->points();
  EXPECT_LE(points.size(), 600U);
  std::int64_t count = 0;
  double high = 0;
  for (const auto& point : points) count += point.count, high = std::max(high, point.high);
  EXPECT_EQ(count, 20000);
  EXPECT_EQ(high, 50);
  EXPECT_LT(run_page({log}, {}).size(), 400'000U);
}

TEST_F(RunLogs, ManyFieldsAndSitesDoNotGrowWithoutBound) {
  std::string text;
  for (int i = 0; i < 3000; ++i) {
    const auto name = std::to_string(i);
    text += "{\"step\":" + name + ",\"f" + name + "\":1,\"gates\":{\"blocks." + name +
            ".att\":{\"mean\":0.5}}}\n";
  }
  const auto log = read(run("a", text));
  EXPECT_LE(log.numbers().size(), 64U);
  EXPECT_LE(log.gates().size(), 512U);
}

TEST_F(RunLogs, ThePageHoldsAPlotForEachFieldAndSaysWhatDiffers) {
  const auto a = run("first", step(10, 5) + validation(10, 5.5)),
             b = run("second",
                     step(10, 6) + "{\"step\":10,\"rouge_l\":0.4,\"ema_valid_loss\":5}\n");
  write_file(a + "/config.json", R"({"train":{"seed":1,"output":"x"},"model":{"core":"rwkv7"}})");
  write_file(b + "/config.json", R"({"train":{"seed":2,"output":"y"},"model":{"core":"rwkv7"}})");
  const auto html = page({a, b});
  for (const char* title :
       {"Training loss", "Validation loss, nats", "ROUGE-L", "averaged weights", "Learning rate",
        "Settings that differ", "train.seed", "first", "second"})
    EXPECT_THAT(html, HasSubstr(title));
  for (const char* other : {"train.output", "Gates of", "http-equiv", "<script", "http:", "nan"})
    EXPECT_THAT(html, Not(HasSubstr(other)));
  EXPECT_THAT(html, HasSubstr(">step<"));
  EXPECT_THAT(page({a}, {.by_tokens = true}), HasSubstr(">tokens<"));
  EXPECT_THAT(page({a}, {.reload_seconds = 5}), HasSubstr("http-equiv=\"refresh\" content=\"5\""));
}

TEST_F(RunLogs, GatesHaveAPartOfTheirOwn) {
  const auto html = page(
      {run("a", step(1, 2) +
                    "{\"step\":1,\"gates\":{\"blocks.0.att\":{\"mean\":0.25,\"min\":0.1,\"max\":"
                    "0.9,\"open\":0.125,\"added\":0.0625}}}\n")});
  for (const char* text : {"Gates of a", "blocks.0.att", "0.25", "0.125", "0.0625"})
    EXPECT_THAT(html, HasSubstr(text));
}

TEST_F(RunLogs, WhatIsWrittenInALogIsTextOnThePage) {
  const auto directory = run("<b>", "{\"step\":1,\"<script>alert(1)</script>\":2}\n");
  write_file(directory + "/config.json", R"({"model":{"core":"<i>"}})");
  const auto html = page({directory});
  for (const char* text : {"<script>", "<b>", "<i>"}) EXPECT_THAT(html, Not(HasSubstr(text)));
}

TEST_F(RunLogs, NamesAreAsLongAsItTakes) {
  const std::vector<RunLog> runs = {read(run("x/run", "")), read(run("y/run", "")),
                                    read(run("y/other", ""))};
  EXPECT_EQ(run_names(runs), (std::vector<std::string>{"x/run", "y/run", "other"}));
}

}  // namespace
}  // namespace rwkvx
