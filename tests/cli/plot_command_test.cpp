// The command plot, run as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/program.h"
#include "support/tiny_run.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class PlotCommand : public TinyRun {
 protected:
  ProgramResult plot(std::vector<std::string> flags) const {
    flags.insert(flags.begin(), "plot");
    return run_program(flags);
  }
  template <class Done>
  static bool await(const Done& done) {
    for (int i = 0; i < 600; ++i) {
      if (done()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return false;
  }
};

TEST_F(PlotCommand, WritesOnePageIntoTheRunsDirectory) {
  make_model();
  const auto result = plot({path("run")});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr(path("run/plot.html")));
  EXPECT_THAT(read_file(path("run/plot.html")),
              AllOf(HasSubstr("Training loss"), HasSubstr("Validation loss"), HasSubstr("12 of 12"),
                    Not(HasSubstr("http-equiv"))));
  fs::copy(path("run"), path("twin"), fs::copy_options::recursive);
  const auto both = plot({path("run"), path("twin/log.jsonl"), "--output", path("both.html"), "--x",
                          "tokens", "--quiet"});
  EXPECT_EQ(both.status, 0);
  EXPECT_EQ(both.err, "");
  EXPECT_THAT(read_file(path("both.html")), AllOf(HasSubstr("2 runs"), HasSubstr("twin")));
}

TEST_F(PlotCommand, RefusesWhatIsNoRun) {
  expect_refused(plot({path("none")}), 3, "none: no such directory");
  expect_refused(plot({path("tiny.json")}), 3, "tiny.json: expected the directory of a run");
  fs::create_directories(path("bare"));
  expect_refused(plot({path("bare")}), 3, "holds no log.jsonl");
  write_file(path("bare/log.jsonl"), "");
  expect_refused(plot({path("bare")}), 3, "is empty");
  write_file(path("bare/log.jsonl"), "{\"prompt\": \"a\"}\nhello\n");
  expect_refused(plot({path("bare")}), 3, "is not the log of a training run");
  EXPECT_FALSE(fs::exists(path("bare/plot.html")));
  expect_refused(plot({path("bare"), "--x", "hours"}), 2, "--x");
  expect_refused(plot({}), 2, "RUN");
  make_model();
  const auto log = read_file(path("run/log.jsonl"));
  expect_refused(plot({path("run"), "--output", path("run/log.jsonl")}), 2, "--output");
  EXPECT_EQ(read_file(path("run/log.jsonl")), log);
  expect_refused(plot({path("run"), "--output", path("none/page.html")}), 3, "none");
}

TEST_F(PlotCommand, SaysHowManyLinesItSkipped) {
  make_model();
  write_file(path("run/log.jsonl"),
             read_file(path("run/log.jsonl")) + "hello\n{\"step\": 13, \"lo");
  const auto result = plot({path("run")});
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.err, HasSubstr("1 of "));
}

TEST_F(PlotCommand, FollowsARunUntilItEnds) {
  const Program training(train_args({"--quiet", "--set", "train.max_steps=1000000", "--set",
                                     "train.log_every=1", "--set", "train.eval_every=0"}));
  ASSERT_TRUE(await([&] { return fs::exists(path("run/log.jsonl")); }));
  const Program follower({"plot", path("run"), "--follow"});
  const auto page = path("run/plot.html");
  ASSERT_TRUE(await([&] { return fs::exists(page); }));
  EXPECT_THAT(read_file(page), HasSubstr("http-equiv=\"refresh\""));
  const auto first = fs::last_write_time(page);
  EXPECT_TRUE(await([&] { return fs::last_write_time(page) != first; }));
  training.signal(SIGTERM);
  training.result();
  const auto result = follower.result();
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(read_file(page), Not(HasSubstr("http-equiv")));
}

TEST_F(PlotCommand, ASignalEndsTheFollowingNotTheRun) {
  const Program training(train_args({"--quiet", "--set", "train.max_steps=1000000", "--set",
                                     "train.log_every=1", "--set", "train.eval_every=0"}));
  ASSERT_TRUE(await([&] { return fs::exists(path("run/log.jsonl")); }));
  const Program follower({"plot", path("run"), "--follow"});
  ASSERT_TRUE(await([&] { return fs::exists(path("run/plot.html")); }));
  follower.signal(SIGINT);
  EXPECT_EQ(follower.result().status, 128 + SIGINT);
  EXPECT_THAT(read_file(path("run/plot.html")), Not(HasSubstr("http-equiv")));
  training.signal(SIGTERM);
  EXPECT_EQ(training.result().status, 128 + SIGTERM);
}

}  // namespace
}  // namespace rwkvx
