// The command train, run as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/program.h"
#include "support/tiny_run.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

class TrainCommand : public TinyRun {
 protected:
  // `train` with the tiny config and more flags.
  ProgramResult train(const std::vector<std::string>& flags) const {
    return run_program(train_args(flags));
  }
  ProgramResult train_set(const std::string& assignment) const {
    return train({"--set", assignment});
  }
};

TEST_F(TrainCommand, WritesARunThatIsDescribedAndContinued) {
  const auto first = train({"--stop-after", "6"});
  ASSERT_EQ(first.status, 0) << first.err;
  EXPECT_EQ(first.out, "");
  EXPECT_THAT(first.err, AllOf(HasSubstr("parameters"), HasSubstr("stopped and saved at step 6"),
                               HasSubstr("--resume")));
  const auto second = train({"--resume", "--quiet"});
  ASSERT_EQ(second.status, 0) << second.err;
  EXPECT_EQ(second.err, "");
  const auto info = run_program({"info", "--model", path("run"), "--json"});
  ASSERT_EQ(info.status, 0) << info.err;
  EXPECT_EQ(json::parse(info.out)["provenance"]["step"], 12);
  std::ifstream log(path("run/log.jsonl"));
  std::int64_t last = 0;
  for (std::string line; std::getline(log, line);) last = json::parse(line)["step"];
  EXPECT_EQ(last, 12);
}

TEST_F(TrainCommand, SaysOnceWhenTheReferenceModulesTrain) {
  const auto notes = [&](const std::vector<std::string>& settings) {
    std::vector<std::string> flags{"--stop-after", "2", "--overwrite"};
    for (const auto& one : settings) flags.insert(flags.end(), {"--set", one});
    const auto result = train(flags);
    EXPECT_EQ(result.status, 0) << result.err;
    std::size_t count = 0;
    const std::string note = "the reference modules train this model";
    for (auto at = result.err.find(note); at != std::string::npos;
         at = result.err.find(note, at + 1))
      ++count;
    return count;
  };
  EXPECT_EQ(notes({}), 0u);
  EXPECT_EQ(notes({"model.shift.kernel=8"}), 0u);
  EXPECT_EQ(notes({"model.shift.kernel=9"}), 1u);
  EXPECT_EQ(notes({"model.shift.kernel=9", "model.shift.ablation=gate_only"}), 0u);
  EXPECT_EQ(notes({"model.shift.dilation=2"}), 1u);
  EXPECT_EQ(notes({"model.shift.activation=\"silu\""}), 1u);
  for (const char* gate : {"scalar", "lowrank"})
    EXPECT_EQ(notes({"model.shift.gate=" + std::string(gate)}), 1u) << gate;
  EXPECT_EQ(notes({"model.shift.gate=scalar", "train.operators=reference"}), 0u);
}

TEST_F(TrainCommand, DryRunAndExplainTrainNothing) {
  const auto dry = train({"--dry-run"});
  ASSERT_EQ(dry.status, 0) << dry.err;
  EXPECT_THAT(dry.out, AllOf(HasSubstr("parameters "), HasSubstr("memory "), HasSubstr("time ")));
  EXPECT_FALSE(std::filesystem::exists(path("run/checkpoints")));
  const auto explain = train({"--explain"});
  ASSERT_EQ(explain.status, 0) << explain.err;
  EXPECT_THAT(explain.out, AllOf(HasSubstr("blocks.1.ffn.receptance.weight"), HasSubstr("(16, 16)"),
                                 HasSubstr("initial value")));
}

TEST_F(TrainCommand, SignalsSaveAndLeave) {
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    const std::string output = path("run" + std::to_string(number));
    const Program program(train_args(
        {"--output", output, "--set", "train.max_steps=1000000", "--set", "train.log_every=1"}));
    for (int i = 0; i < 600 && !std::filesystem::exists(output + "/log.jsonl"); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    program.signal(number);
    const auto result = program.result();
    EXPECT_EQ(result.status, 128 + number) << result.err;
    EXPECT_THAT(result.err, HasSubstr("interrupted and saved at step "));
    EXPECT_EQ(run_program({"info", "--model", output + "/latest"}).status, 0);
    const auto more =
        run_program(train_args({"--output", output, "--set", "train.max_steps=1000000", "--set",
                                "train.log_every=1", "--resume", "--stop-after", "1"}));
    EXPECT_EQ(more.status, 0) << more.err;
    EXPECT_THAT(more.err, HasSubstr("resuming from step "));
  }
}

TEST_F(TrainCommand, NamesTheNearestKeyAndFlag) {
  expect_refused(train_set("train.batchsize=4"), 2, "did you mean \"batch_size\"");
  expect_refused(train_set("modle.n_layer=4"), 2, "did you mean \"model\"");
  expect_refused(train_set("model.shift.kindd=gps"), 2, "did you mean \"kind\"");
  expect_refused(train({"--overwrit"}), 2, "did you mean \"--overwrite\"");
  expect_refused(run_program({"trian"}), 2, "did you mean \"train\"");
  expect_refused(run_program({"train"}), 2, "--config is required");
}

TEST_F(TrainCommand, SaysWhichValueIsWrongAndWhatIsAllowed) {
  expect_refused(train_set("model.n_layer=0"), 2, "model.n_layer");
  expect_refused(train_set("model.n_layer=1.5"), 2, "model.n_layer");
  expect_refused(train_set("model.n_layer=\"two\""), 2, "model.n_layer");
  expect_refused(train_set("model.shift.kind=\"gsp\""), 2, "gps");
  expect_refused(train_set("train.beta2=1"), 2, "train.beta2");
  expect_refused(train_set("train.learning_rate=NaN"), 2, "train.learning_rate");
  expect_refused(train_set("train.n_layer"), 2, "train.n_layer");
  expect_refused(train_set("train.device=\"gpu\""), 2, "train.device");
  // A GPU that no machine has, in a build with CUDA or without.
  expect_refused(train_set("train.device=\"cuda:99\""), 2, "train.device: expected cuda:99");
  write_file(path("broken.json"), "{\"model\": {\"n_layer\": }");
  expect_refused(run_program({"train", "--config", path("broken.json")}), 2, "broken.json");
  write_file(path("list.json"), "[]");
  expect_refused(run_program({"train", "--config", path("list.json")}), 2, "list.json");
}

TEST_F(TrainCommand, RefusesTextItCannotTrainOn) {
  expect_refused(run_program({"train", "--config", path("none.json")}), 2, "none.json");
  expect_refused(train_set("data.train=" + path("none.txt")), 3, "none.txt");
  write_file(path("empty.txt"), "");
  expect_refused(train_set("data.train=" + path("empty.txt")), 3, "empty.txt");
  write_file(path("short.txt"), "only a few words\n");
  expect_refused(train_set("data.train=" + path("short.txt")), 3, "ctx_len");
  expect_refused(train_set("model.vocab_size=100"), 2, "model.vocab_size");
  expect_refused(train({"--set", "tokenizer.path=" + path("none.model"), "--set",
                        "tokenizer.kind=sentencepiece"}),
                 3, "none.model");
  write_file(path("file"), "");
  expect_refused(train({"--output", path("file")}), 3, path("file"));
}

TEST_F(TrainCommand, CountsInvalidUtf8AndKeepsItAsBytes) {
  write_file(path("bytes.txt"), text() + "\xff\xfe odd bytes \x80\n" + text());
  const auto result = train({"--set", "data.train=" + path("bytes.txt"), "--stop-after", "1"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("3 invalid UTF-8 sequences"));
}

TEST_F(TrainCommand, RefusesToReplaceARunUnlessTold) {
  ASSERT_EQ(train({"--stop-after", "2"}).status, 0);
  const auto again = train({"--stop-after", "2", "--quiet"});
  expect_refused(again, 2, "--resume");
  EXPECT_EQ(train({"--stop-after", "1", "--overwrite"}).status, 0);
}

TEST_F(TrainCommand, StopsAtANonFiniteLossWithStepTensorAndLastGoodCheckpoint) {
  ASSERT_EQ(train({"--stop-after", "2", "--quiet"}).status, 0);
  // The decay alone makes the matrices 99 times larger at every step.
  auto result = train({"--resume", "--quiet", "--set", "train.learning_rate=10", "--set",
                       "train.final_learning_rate=10", "--set", "train.weight_decay=10", "--set",
                       "train.max_steps=3000", "--set", "train.warmup_steps=0"});
  // First what differs from the checkpoint's settings.
  ASSERT_TRUE(result.err.starts_with("rwkvx: warning: resuming ")) << result.err;
  result.err.erase(0, result.err.find('\n') + 1);
  expect_refused(result, 1, "step ");
  EXPECT_THAT(result.err, AllOf(HasSubstr("first tensor that is not finite: "),
                                HasSubstr("last good checkpoint: " + path("run"))));
  EXPECT_EQ(run_program({"info", "--model", path("run/latest")}).status, 0);
}

// Waits until a file has appeared.
void await(const std::string& path) {
  for (int i = 0; i < 600 && !std::filesystem::exists(path); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
}

TEST_F(TrainCommand, AClosedPipeOfMessagesSavesAndEnds) {
  std::string command = std::string(RWKVX_PROGRAM);
  for (const auto& arg : train_args({"--set", "train.max_steps=1000000", "--set",
                                     "train.log_every=1", "--set", "train.save_every=0"}))
    command += " '" + arg + "'";
  // head reads one line and goes; bash says how the program before it ended.
  const auto result = std::system(
      ("bash -c \"" + command + " 2>&1 | head -n 1 >/dev/null; exit \\${PIPESTATUS[0]}\"").c_str());
  EXPECT_EQ(WEXITSTATUS(result), 128 + SIGPIPE);
  const auto info = run_program({"info", "--model", path("run/latest")});
  EXPECT_EQ(info.status, 0) << info.err;
}

TEST_F(TrainCommand, ASecondOneIsRefusedAndNamesTheFirst) {
  const std::vector<std::string> endless{"--set", "train.max_steps=1000000",
                                         "--set", "train.log_every=1",
                                         "--set", "train.save_every=3"};
  const Program first(train_args(endless));
  await(path("run/log.jsonl"));
  const auto owner = "is in use by process " + std::to_string(first.id()) + " on ";
  for (const char* flag : {"--resume", "--overwrite"}) {
    auto flags = endless;
    flags.push_back(flag);
    const auto second = train(flags);
    expect_refused(second, 3, owner);
    EXPECT_THAT(second.err, HasSubstr("rwkvx train --config"));
  }
  // What only reads works meanwhile.
  EXPECT_EQ(train({"--dry-run", "--quiet"}).status, 0);
  EXPECT_EQ(run_program({"info", "--model", path("run/config.json")}).status, 3);
  first.signal(SIGTERM);
  const auto result = first.result();
  EXPECT_EQ(result.status, 128 + SIGTERM) << result.err;
  std::ifstream log(path("run/log.jsonl"));
  std::int64_t last = 0;
  for (std::string line; std::getline(log, line);) {
    const auto json = json::parse(line);
    if (!json.contains("loss")) continue;
    EXPECT_EQ(json["step"], last + 1);
    last = json["step"];
  }
  EXPECT_FALSE(std::filesystem::exists(path("run/.lock")));
}

TEST_F(TrainCommand, TheLockOfAKilledOneIsTakenOver) {
  const Program first(train_args({"--set", "train.max_steps=1000000", "--set", "train.save_every=1",
                                  "--set", "train.keep_last=1000000"}));
  await(path("run/checkpoints/step-00000002"));
  first.signal(SIGKILL);
  first.result();
  EXPECT_TRUE(std::filesystem::exists(path("run/.lock")));
  const auto more = train({"--resume", "--stop-after", "1", "--set", "train.max_steps=1000000"});
  EXPECT_EQ(more.status, 0) << more.err;
  EXPECT_FALSE(std::filesystem::exists(path("run/.lock")));
}

TEST_F(TrainCommand, ADryRunLeavesARunAsItIs) {
  ASSERT_EQ(train({"--stop-after", "2", "--quiet"}).status, 0);
  const auto before = read_file(path("run/data/train.json"));
  EXPECT_EQ(train({"--dry-run", "--quiet", "--set", "data.separator=\"--\""}).status, 0);
  EXPECT_EQ(read_file(path("run/data/train.json")), before);
}

TEST_F(TrainCommand, AFirstRunWithResumeSaysWhereItStarts) {
  const auto first = train({"--resume", "--stop-after", "1"});
  EXPECT_EQ(first.status, 0);
  EXPECT_THAT(first.err, HasSubstr("no checkpoint in " + path("run") + ", starting at step 0"));
  EXPECT_THAT(first.err, testing::Not(HasSubstr("to go on from")));
}

TEST_F(TrainCommand, ABrokenLineIsFoundBeforeTheTokenizerIsTrained) {
  std::string lines;
  for (int i = 0; i < 200; ++i) lines += "{\"text\": \"bird number " + std::to_string(i) + "\"}\n";
  write_file(path("text.jsonl"), lines + "{\"text\": \"cut\n");
  const std::vector<std::string> flags{
      "--set", "data.train=" + path("text.jsonl"), "--set",        "tokenizer.kind=sentencepiece",
      "--set", "tokenizer.vocab_size=280",         "--stop-after", "1"};
  const auto result = train(flags);
  expect_refused(result, 3, "text.jsonl:201: is not valid JSON");
  EXPECT_FALSE(std::filesystem::exists(path("run")));
  auto skipping = flags;
  skipping.insert(skipping.end(), {"--set", "data.skip_bad_lines=true"});
  const auto skipped = train(skipping);
  EXPECT_EQ(skipped.status, 0) << skipped.err;
  EXPECT_THAT(skipped.err, HasSubstr("1 bad line was skipped"));
}

TEST_F(TrainCommand, ATextTooSmallForAnyTokenizerSaysSo) {
  write_file(path("small.txt"), "one two three\n");
  const auto result = train({"--set", "data.train=" + path("small.txt"), "--set",
                             "tokenizer.kind=sentencepiece", "--quiet"});
  expect_refused(result, 3, "expected at least 270; give more text, or take the byte tokenizer");
  EXPECT_THAT(result.err, testing::Not(HasSubstr("or less")));
}

TEST_F(TrainCommand, WhatIsPrintedToAFullDiskIsAnError) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full";
  std::string command = std::string(RWKVX_PROGRAM);
  for (const auto& arg : train_args({"--explain"})) command += " '" + arg + "'";
  const auto result = std::system((command + " >/dev/full 2>" + path("err")).c_str());
  EXPECT_EQ(WEXITSTATUS(result), 3);
  EXPECT_THAT(read_file(path("err")), HasSubstr("standard output: cannot write"));
}

}  // namespace
}  // namespace rwkvx
