// The commands tokenizer and data, run as a user runs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/program.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;

class DataCommand : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (scratch_ / name).string(); }
  // A folder with synthetic stories and a tokenizer trained on them.
  void make_stories() {
    const auto synth = run_program(
        {"data", "synth", "--output", path("text"), "--stories", "60", "--quiet", "--pairs", "3"});
    ASSERT_EQ(synth.status, 0) << synth.err;
    const auto train =
        run_program({"tokenizer", "train", "--input", path("text/train.txt"), "--output",
                     path("tokenizer"), "--vocab-size", "600", "--json"});
    ASSERT_EQ(train.status, 0) << train.err;
    EXPECT_EQ(train.err, "") << "sentencepiece must not talk";
    EXPECT_EQ(nlohmann::json::parse(train.out)["vocab_size"], 600);
  }
  ScratchDirectory scratch_;
};

TEST_F(DataCommand, EncodesAndDecodesToTheSameBytes) {
  make_stories();
  const std::string text("Mira went  to the mill.\n\n\t\xE2\x96\x81 \xFF\0 end", 38);
  for (const std::string& tokenizer : {path("tokenizer"), std::string("byte")}) {
    const auto ids = run_program({"tokenizer", "encode", "--tokenizer", tokenizer}, text);
    ASSERT_EQ(ids.status, 0) << ids.err;
    const auto back = run_program({"tokenizer", "decode", "--tokenizer", tokenizer}, ids.out);
    EXPECT_EQ(back.status, 0) << back.err;
    EXPECT_EQ(back.out, text);
  }
  write_file(path("in.txt"), "AB\n");
  const auto file =
      run_program({"tokenizer", "encode", "--tokenizer", "byte", "--input", path("in.txt")});
  EXPECT_EQ(file.out, "65 66 10\n");
  const auto pieces =
      run_program({"tokenizer", "encode", "--tokenizer", "byte", "--pieces"}, "A\n");
  EXPECT_EQ(pieces.out, "65\t\"A\"\n10\t\"\\n\"\n");
  EXPECT_EQ(run_program({"tokenizer", "decode", "--tokenizer", "byte"}, "[72, 105]\n").out, "Hi");
}

TEST_F(DataCommand, RefusesIdsThatAreNone) {
  const auto decode = [](const std::string& ids) {
    return run_program({"tokenizer", "decode", "--tokenizer", "byte"}, ids);
  };
  for (const char* ids : {"72x", "-1", "257", "99999999999999999999", "1.5", "two"}) {
    const auto result = decode(ids);
    EXPECT_EQ(result.status, 3) << ids;
    EXPECT_THAT(result.err, HasSubstr("standard input: id number 1 is \""));
    EXPECT_THAT(result.err, HasSubstr("expected 0 to 256"));
  }
}

TEST_F(DataCommand, BuildsReusesAndInspectsATokenFile) {
  make_stories();
  const std::vector<std::string> build{
      "data",        "build",           "--input",  path("text/train.txt"),
      "--tokenizer", path("tokenizer"), "--output", path("out/train"),
      "--quiet",     "--json"};
  const auto first = run_program(build);
  ASSERT_EQ(first.status, 0) << first.err;
  const auto built = nlohmann::json::parse(first.out);
  EXPECT_EQ(built["documents"], 60);
  EXPECT_EQ(built["reused"], false);
  EXPECT_EQ(nlohmann::json::parse(run_program(build).out)["reused"], true);

  const auto json = run_program({"data", "inspect", path("out/train"), "--tokenizer",
                                 path("tokenizer"), "--json", "--top", "5", "--document", "59"});
  ASSERT_EQ(json.status, 0) << json.err;
  const auto report = nlohmann::json::parse(json.out);
  EXPECT_EQ(report["tokens"], built["tokens"]);
  EXPECT_EQ(report["top"].size(), 5u);
  EXPECT_GE(report["top"][0]["count"], report["top"][1]["count"]);
  EXPECT_EQ(report["sample"]["ids"].size(), 64u);
  const std::string text = report["sample"]["text"];
  EXPECT_THAT(read_file(path("text/train.txt")), HasSubstr("<|endoftext|>\n" + text));

  const auto human = run_program({"data", "inspect", path("out/train.idx")});
  EXPECT_EQ(human.status, 0) << human.err;
  EXPECT_THAT(human.out, HasSubstr("documents         60\n"));
  EXPECT_THAT(human.out, HasSubstr("name the tokenizer"));
}

TEST_F(DataCommand, CountsInvalidUtf8InOneWarning) {
  write_file(path("odd.txt"), "caf\xC3 \xFF\n");
  const auto result = run_program({"data", "build", "--input", path("odd.txt"), "--tokenizer",
                                   "byte", "--output", path("odd"), "--quiet"});
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.err, HasSubstr("2 invalid UTF-8 sequences"));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1);
  EXPECT_THAT(result.out, HasSubstr("invalid UTF-8     2\n"));
}

TEST_F(DataCommand, SaysWhatIsWrongInOneLine) {
  write_file(path("empty.txt"), "");
  write_file(path("bad.jsonl"), "{\"text\": \"x\"}\n{\"text\": 1}\n");
  write_file(path("noise.model"), "noise");
  write_file(path("small.txt"), "one two three\n");
  const auto build = [&](const std::string& input, const std::string& tokenizer) {
    return run_program({"data", "build", "--input", path(input), "--tokenizer", tokenizer,
                        "--output", path("out"), "--quiet"});
  };
  expect_refused(build("empty.txt", "byte"), 3, "empty.txt: holds no text");
  expect_refused(build("none.txt", "byte"), 3, "none.txt: cannot open");
  expect_refused(build("bad.jsonl", "byte"), 3, "bad.jsonl:2: expected a string in \"text\"");
  expect_refused(build("small.txt", path("noise.model")), 3, "noise.model: is not a sentencepiece");
  expect_refused(build("small.txt", path("none")), 3, "none: cannot open");
  expect_refused(run_program({"tokenizer", "train", "--input", path("small.txt"), "--output",
                              path("t"), "--vocab-size", "5000"}),
                 3, "the text has enough for 268 pieces, expected at least 270");
  expect_refused(run_program({"data", "inspect", path("none")}), 3, "none.bin: cannot open");
  write_file(path("x.bin"), "ab");
  write_file(path("x.idx"), "MMIDIDX");
  expect_refused(run_program({"data", "inspect", path("x")}), 3, "x.idx: is not a binidx index");
  expect_refused(run_program({"data", "synth", "--output", path("s"), "--task", "storeis"}), 2,
                 "did you mean \"stories\"?");
  expect_refused(run_program({"data", "synth", "--output", path("s"), "--megabytes", "0"}), 2,
                 "--megabytes");
  expect_refused(run_program({"data", "build", "--inptu", "x"}), 2, "--input");
  expect_refused(run_program({"tokenizer", "train", "--input", "x", "--output", "y", "--model-type",
                              "wordpiece"}),
                 2, "wordpiece");
}

TEST_F(DataCommand, ARefusedTokenizerTrainingChangesNothing) {
  make_stories();
  const auto train = [&](const std::string& output, const std::string& size) {
    return run_program({"tokenizer", "train", "--input", path("text/train.txt"), "--output",
                        path(output), "--vocab-size", size});
  };
  EXPECT_EQ(train("new", "900000").status, 3);
  EXPECT_FALSE(std::filesystem::exists(path("new")));
  std::filesystem::create_directories(path("other"));
  write_file(path("other/tokenizer.json"), "{\"version\": \"1.0\"}");
  expect_refused(train("other", "300"), 3, "tokenizer.json: already exists and was not written by");
  EXPECT_EQ(read_file(path("other/tokenizer.json")), "{\"version\": \"1.0\"}");
  std::filesystem::remove(path("other/tokenizer.json"));
  write_file(path("other/tokenizer.model"), "mine");
  expect_refused(train("other", "300"), 3, "tokenizer.model: already exists");
  EXPECT_EQ(train("new", "600").status, 0);
  EXPECT_EQ(train("new", "610").status, 0) << "its own is replaced";
}

TEST_F(DataCommand, BadLinesAreLeftOutAndCountedWhereThatIsWanted) {
  write_file(path("bad.jsonl"), "{\"text\": \"x\"}\n{\"text\": 1}\n{\"text\": \"y\"}\n");
  const std::vector<std::string> build{"data",        "build",  "--input",  path("bad.jsonl"),
                                       "--tokenizer", "byte",   "--output", path("bad"),
                                       "--json",      "--quiet"};
  expect_refused(run_program(build), 3, "bad.jsonl:2");
  EXPECT_FALSE(std::filesystem::exists(path("bad.json")));
  auto skipping = build;
  skipping.push_back("--skip-bad");
  const auto built = run_program(skipping);
  ASSERT_EQ(built.status, 0) << built.err;
  EXPECT_EQ(nlohmann::json::parse(built.out)["skipped_lines"], 1);
  EXPECT_THAT(built.err, HasSubstr("1 bad line was skipped"));
  EXPECT_THAT(run_program({"data", "inspect", path("bad")}).out, HasSubstr("skipped lines     1"));
}

TEST_F(DataCommand, NeverWritesOverItsInput) {
  write_file(path("text.txt"), "one two three four five six seven eight nine ten\n");
  const auto before = read_file(path("text.txt"));
  std::filesystem::create_symlink(path("text.txt"), path("link"));
  for (const char* output : {"text.txt", "link", "./text.txt"})
    expect_refused(
        run_program({"data", "pairs", "--input", path("text.txt"), "--output", path(output),
                     "--prompt-words", "1", "--reference-words", "1", "--tail", "0.5"}),
        2, "is the same file as --input");
  EXPECT_EQ(read_file(path("text.txt")), before);
  // A directory with a text of one's own.
  std::filesystem::create_directories(path("mine"));
  write_file(path("mine/train.txt"), "mine");
  expect_refused(run_program({"data", "synth", "--output", path("mine"), "--stories", "3"}), 3,
                 "train.txt: already exists");
  EXPECT_EQ(read_file(path("mine/train.txt")), "mine");
}

TEST_F(DataCommand, ASignalWhileATokenizerIsTrainedOrDataAreBuiltLeavesNothing) {
  std::string text;
  for (int i = 0; i < 200000; ++i)
    text += "line " + std::to_string(i * 7919 % 100003) + " of a text that takes a while " +
            std::to_string(i) + "\n";
  write_file(path("long.txt"), text);
  const std::vector<std::vector<std::string>> commands{
      {"tokenizer", "train", "--input", path("long.txt"), "--output", path("new/t"), "--vocab-size",
       "8000"},
      {"data", "build", "--input", path("long.txt"), "--tokenizer", "byte", "--output",
       path("new/t"), "--threads", "1", "--quiet"}};
  for (const auto& command : commands)
    for (const int signal : {SIGHUP, SIGTERM}) {
      const Program program(command);
      for (int i = 0; i < 400 && !std::filesystem::exists(path("new")); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      program.signal(signal);
      const auto result = program.result();
      if (result.status == 0) continue;  // it was faster
      EXPECT_EQ(result.status, 128 + signal) << result.err;
      EXPECT_THAT(result.err, HasSubstr("interrupted"));
      EXPECT_FALSE(std::filesystem::exists(path("new"))) << command[0];
    }
}

TEST_F(DataCommand, WritesTheSameCorpusTwice) {
  for (const char* name : {"a", "b"}) {
    const auto result = run_program({"data", "synth", "--output", path(name), "--seed", "9",
                                     "--megabytes", "0.1", "--quiet", "--json"});
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.err, "");
  }
  for (const char* name :
       {"train.txt", "valid.txt", "pairs.jsonl", "boundaries.jsonl", "manifest.json"})
    EXPECT_EQ(read_file(path(std::string("a/") + name)), read_file(path(std::string("b/") + name)));
}

}  // namespace
}  // namespace rwkvx
