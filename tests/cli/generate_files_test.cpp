// The files that generate reads and writes: pipes, outputs that are resumed, states, signals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/formats/tensor_file.h"
#include "support/program.h"
#include "support/tiny_run.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

class GenerateFiles : public TinyRun {
 protected:
  void SetUp() override {
    make_model();
    write_file(path("in"), prompts("first"));
  }
  static std::string prompts(const std::string& note) {
    std::string lines;
    for (int i = 0; i < 5; ++i)
      lines += json{{"prompt", "bird number " + std::to_string(i)}, {"note", note}}.dump() + "\n";
    return lines;
  }
  std::vector<std::string> args(const std::vector<std::string>& more) const {
    std::vector<std::string> all = {"generate", "--model", path("run"), "--max-new-tokens", "12"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  ProgramResult generate(const std::vector<std::string>& more,
                         const std::string& input = "") const {
    return run_program(args(more), input);
  }
  ProgramResult batch(const std::string& in, const std::string& out,
                      const std::vector<std::string>& more = {}) const {
    std::vector<std::string> flags = {"--input", path(in), "--output", path(out), "--quiet"};
    flags.insert(flags.end(), more.begin(), more.end());
    return generate(flags);
  }
  // Runs a shell command in which $B is the program with its model.
  int shell(const std::string& command) const {
    const auto line = "B=\"'" + program_of("generate") + "' generate --model '" + path("run") +
                      "' --max-new-tokens 12 --quiet\"; cd '" + path("") + "'; " + command +
                      " 2>'" + path("err") + "'";
    const int status = std::system(("bash -c " + quoted(line)).c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  }
  static std::string quoted(const std::string& text) {
    std::string out = "'";
    for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
  }
};

TEST_F(GenerateFiles, LeaveAFileThatIsNotTheirsAsItIs) {
  for (const std::string content :
       {"{\"one\": \"line\"}", "two\nlines", "{\"settings\": 3}\n", "{\"settings\": \"x\"}\n{\"a\"",
        "[1]\n", "null\n", "\xff\xfe\n\x01", "\n\n"}) {
    write_file(path("other"), content);
    const auto result = batch("in", "other");
    expect_refused(result, 3, "use --overwrite");
    EXPECT_EQ(read_file(path("other")), content);
  }
  const auto weights = fs::path(path("run")) / "log.jsonl";  // of the model's run
  const auto before = read_file(weights);
  EXPECT_EQ(generate({"--input", path("in"), "--output", weights}).status, 2);
  EXPECT_EQ(read_file(weights), before);
}

TEST_F(GenerateFiles, RefuseAnOutputThatIsAnInput) {
  fs::create_symlink("in", path("link"));
  fs::create_hard_link(path("in"), path("hard"));
  const auto before = read_file(path("in"));
  for (const std::string name : {"in", "link", "hard", "./in", "run/../in"})
    for (const bool overwrite : {false, true}) {
      const auto result =
          batch("in", name,
                overwrite ? std::vector<std::string>{"--overwrite"} : std::vector<std::string>{});
      expect_refused(result, 2, "--output: ");
      EXPECT_THAT(result.err, HasSubstr("is the same file as --input"));
      EXPECT_EQ(read_file(path("in")), before);
    }
  fs::path weights;
  for (const auto& one : fs::recursive_directory_iterator(path("run")))
    if (one.path().filename() == "model.safetensors" &&
        one.path().string().find("step-00000012") != std::string::npos)
      weights = one.path();
  ASSERT_FALSE(weights.empty());
  expect_refused(generate({"--prompt", "a", "--save-state", weights}), 2,
                 "is the same file as --model");
  write_file(path("p"), "a");
  expect_refused(generate({"--prompt-file", path("p"), "--save-state", path("p")}), 2,
                 "is the same file as --prompt-file");
  expect_refused(run_program({"eval", "--model", path("run"), "--prompts", path("in"),
                              "--save-predictions", path("link")}),
                 2, "is the same file as --prompts");
  write_file(path("pairs"), "{\"prediction\": \"a\", \"reference\": \"b\"}\n");
  for (const auto* flag : {"--report", "--per-sample"})
    expect_refused(run_program({"eval", "--pairs", path("pairs"), flag, path("pairs")}), 2,
                   "is the same file as --pairs");
  expect_refused(
      run_program({"eval", "--compare", path("in"), path("pairs"), "--report", path("pairs")}), 2,
      "is the same file as --compare");
  expect_refused(run_program({"eval", "--pairs", path("pairs"), "--report", path("new"),
                              "--per-sample", path("./new")}),
                 2, "is the file of");
}

TEST_F(GenerateFiles, CheckOutputsBeforeTheWork) {
  for (const auto& flags : {std::vector<std::string>{"--prompt", "a", "--save-state"},
                            std::vector<std::string>{"--input", path("in"), "--output"}}) {
    for (const auto& output : {path("missing/s"), path("run"), path("text.txt/s")}) {
      auto all = flags;
      all.push_back(output);
      const auto result = generate(all);
      EXPECT_EQ(result.status, 3) << output;
      EXPECT_EQ(result.out, "") << "nothing before";
    }
  }
}

TEST_F(GenerateFiles, ResumeWithTheMembersThatTheInputHasNow) {
  ASSERT_EQ(batch("in", "whole").status, 0);
  const auto whole = read_file(path("whole"));
  write_file(path("in"), prompts("corrected"));
  ASSERT_EQ(batch("in", "corrected").status, 0);
  const auto corrected = read_file(path("corrected"));
  ASSERT_NE(whole, corrected);
  // Some lines and a half one of the earlier input.
  auto third = whole.find('\n', whole.find('\n') + 1) + 1;
  write_file(path("out"), whole.substr(0, third + 20));
  const auto resumed = batch("in", "out");
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_EQ(read_file(path("out")), corrected);
  write_file(path("out"), whole);
  ASSERT_EQ(batch("in", "out").status, 0);
  EXPECT_EQ(read_file(path("out")), corrected);
  ASSERT_EQ(batch("in", "out").status, 0);
  EXPECT_EQ(read_file(path("out")), corrected) << "nothing is left to do";
}

TEST_F(GenerateFiles, RefuseMembersThatTheOutputWritesItself) {
  for (const std::string name : {"tokens", "prediction", "settings", "logprob", "ended_by"}) {
    write_file(path("bad"), json{{"prompt", "a"}, {name, "x"}}.dump() + "\n");
    expect_refused(batch("bad", "o"), 3, "bad:1: has a field \"" + name + "\"");
    expect_refused(batch("bad", "o", {"--prompt-field", name}), 2, "--prompt-field");
    EXPECT_FALSE(fs::exists(path("o")));
  }
  write_file(path("bad"), "{\"prompt\": \"a\", \"sample\": 3}\n");
  EXPECT_EQ(batch("bad", "o").status, 0) << "one continuation has no number";
  expect_refused(batch("bad", "o2", {"--samples", "2"}), 3, "has a field \"sample\"");
}

TEST_F(GenerateFiles, TheSecondWriterOfAnOutputIsRefused) {
  std::string many;
  for (int i = 0; i < 400; ++i) many += "{\"prompt\": \"bird number " + std::to_string(i) + "\"}\n";
  write_file(path("many"), many);
  const auto flags = args({"--input", path("many"), "--output", path("o"), "--quiet",
                           "--max-new-tokens", "400", "--seed", "1"});
  const Program first(flags);
  for (int i = 0; i < 1000 && !fs::exists(path("o")); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  auto other = flags;
  other.back() = "2";
  const auto second = run_program(other);
  expect_refused(second, 3, "is in use by process ");
  EXPECT_THAT(second.err, HasSubstr("rwkvx generate"));
  first.signal(SIGTERM);
  EXPECT_EQ(first.result().status, 128 + SIGTERM);
  const auto lines = read_file(path("o"));
  EXPECT_TRUE(lines.empty() || lines.ends_with('\n'));
}

TEST_F(GenerateFiles, PipesAndADashAreInputsAndOutputs) {
  ASSERT_EQ(batch("in", "whole").status, 0);
  const auto whole = read_file(path("whole"));
  for (const auto* command :
       {"cat in | eval $B --input /dev/stdin --output o", "cat in | eval $B --input - --output o",
        "eval $B --input '<(cat in)' --output o", "eval $B --input in --output - > o",
        "eval $B --input in --output - | cat > o", "cat in | eval $B --input - --output - > o",
        "eval $B --input in --output /dev/stdout | cat > o"}) {
    fs::remove(path("o"));
    EXPECT_EQ(shell(command), 0) << command << read_file(path("err"));
    EXPECT_EQ(read_file(path("o")), whole) << command;
  }
  EXPECT_NE(shell("true | eval $B --input - --output o"), 0) << "no prompts";
  const auto text = generate({"--prompt", "bird"});
  EXPECT_EQ(generate({"--prompt-file", "-"}, "bird").out, text.out);
  EXPECT_EQ(generate({"--prompt-file", "/dev/stdin"}, "bird").out, text.out);
}

TEST_F(GenerateFiles, PipesAndADashAreInputsOfEval) {
  write_file(path("pairs"), "{\"prediction\": \"a b\", \"reference\": \"a c\"}\n");
  std::string prompts;
  for (int i = 0; i < 3; ++i)
    prompts += "{\"prompt\": \"bird " + std::to_string(i) + "\", \"reference\": \"x\"}\n";
  write_file(path("asked"), prompts);
  write_file(path("lines"), "one\ntwo\n");
  const auto same = [&](const std::vector<std::string>& flags, const std::string& input) {
    std::vector<std::string> named = {"eval", "--quiet"}, piped = named;
    for (const auto& flag : flags) {
      named.push_back(flag == "-" ? path(input) : flag);
      piped.push_back(flag);
    }
    const auto wanted = run_program(named);
    ASSERT_EQ(wanted.status, 0) << wanted.err;
    const auto found = run_program(piped, read_file(path(input)));
    EXPECT_EQ(found.status, 0) << found.err;
    EXPECT_EQ(found.out, wanted.out);
  };
  same({"--pairs", "-"}, "pairs");
  same({"--pairs", "-", "--diversity"}, "pairs");
  same({"--predictions", "-", "--references", path("lines")}, "lines");
  same({"--model", path("run"), "--text", "-"}, "text.txt");
  same({"--model", path("run"), "--prompts", "-", "--max-new-tokens", "5"}, "asked");
  expect_refused(run_program({"eval", "--predictions", "-", "--references", "-"}, "a\n"), 2,
                 "standard input can be given once only");
}

TEST_F(GenerateFiles, APromptCutWithinACharacterIsTaken) {
  const auto cut = std::string("caf\xc3");
  const auto result = generate({"--prompt-file", "-", "--echo"}, cut);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err, "") << "bytes are what this model takes";
  EXPECT_EQ(result.out.substr(0, cut.size()), cut);
  EXPECT_EQ(generate({"--prompt", "\xff\xfe"}).status, 0);
}

TEST_F(GenerateFiles, APromptCacheThatFailsIsAWarning) {
  const std::string prompt(4000, 'x');
  const auto without = generate({}, prompt);
  const auto broken = generate({"--prompt-cache", path("text.txt/cache")}, prompt);
  EXPECT_EQ(broken.status, 0);
  EXPECT_EQ(broken.out, without.out);
  EXPECT_THAT(broken.err, HasSubstr("--prompt-cache: cannot make this directory"));
  EXPECT_EQ(std::count(broken.err.begin(), broken.err.end(), '\n'), 1);
  // What a killed process left is removed.
  fs::create_directory(path("cache"));
  write_file(path("cache") + "/x.state.rwkvx-abcdefgh.tmp", "half");
  EXPECT_EQ(generate({"--prompt-cache", path("cache")}, prompt).out, without.out);
  for (const auto& one : fs::directory_iterator(path("cache")))
    EXPECT_EQ(one.path().extension(), ".state") << one.path();
}

TEST_F(GenerateFiles, SeveralProcessesShareAColdPromptCache) {
  const std::string prompt(4000, 'y');
  const auto without = generate({}, prompt);
  for (int round = 0; round < 3; ++round) {
    fs::remove_all(path("cache"));
    std::vector<std::unique_ptr<Program>> all;
    for (int i = 0; i < 4; ++i)
      all.push_back(std::make_unique<Program>(
          args({"--prompt-cache", path("cache"), "--save-state", path("state")}), prompt));
    for (const auto& one : all) {
      const auto result = one->result();
      EXPECT_EQ(result.status, 0) << result.err;
      EXPECT_EQ(result.out, without.out);
    }
    EXPECT_EQ(generate({"--prompt", "", "--load-state", path("state")}).status, 0);
  }
}

TEST_F(GenerateFiles, ASignalEndsThePromptWithinAChunk) {
  // Minutes of prompt for the slowest machine that is likely.
  std::string prompt;
  while (prompt.size() < 50'000'000) prompt += text();
  write_file(path("long"), prompt);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const Program program(args({"--prompt-file", path("long"), "--threads", "1"}));
    std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    const auto sent = std::chrono::steady_clock::now();
    program.signal(signal);
    const auto result = program.result();
    EXPECT_EQ(result.status, 128 + signal) << result.err;
    EXPECT_LT(std::chrono::steady_clock::now() - sent, std::chrono::seconds(5));
  }
}

TEST_F(GenerateFiles, AConversationKnowsItsCommandsAndTakesTheRestAsText) {
  const auto talk = [&](const std::string& lines) {
    const auto result = generate({"--interactive", "--temperature", "0"}, lines);
    EXPECT_EQ(result.status, 0) << result.err;
    return result;
  };
  EXPECT_THAT(talk("/help\n").out, HasSubstr("/undo"));
  EXPECT_THAT(talk("/usr/bin\n").out, Not(HasSubstr("/undo")));
  EXPECT_THAT(talk("//undo\n").err, Not(HasSubstr("there is no turn")));
  EXPECT_THAT(talk("/undo\n").err, HasSubstr("there is no turn"));
  EXPECT_EQ(talk("// a comment\n").out,
            generate({"--prompt", "// a comment\n", "--temperature", "0"}).out);
  EXPECT_EQ(talk("//undo\n").out, generate({"--prompt", "/undo\n", "--temperature", "0"}).out);
}

// The line editor on a terminal, as script(1) makes one.
TEST_F(GenerateFiles, AConversationOnATerminalKeepsEveryCharacter) {
  if (std::system("script --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "no script(1)";
  for (const auto* locale : {"C.UTF-8", "C"}) {
    const std::string line = "héllo мир 日本";
    // The state after the conversation is that after the same text given as a prompt.
    const auto command = "(sleep 1; printf '%s\\n' '" + line +
                         "'; sleep 1; printf '/save talk\\n/quit\\n'; sleep 1) | LC_ALL=" + locale +
                         " script -qec \"$B --interactive --temperature 0\" /dev/null >o";
    fs::remove(path("talk"));
    const auto without_quiet = "B=${B% --quiet}; " + command;
    shell(without_quiet);
    ASSERT_TRUE(fs::exists(path("talk"))) << locale << read_file(path("o"));
    ASSERT_EQ(
        generate({"--prompt", line + "\n", "--temperature", "0", "--save-state", path("whole")})
            .status,
        0);
    // A conversation shows the whole of a reply, and so holds nothing back.
    const auto talk = open_tensor_file(path("talk")), whole = open_tensor_file(path("whole"));
    for (const auto& tensor : whole.tensors())
      EXPECT_TRUE(tensor.name == "held" ||
                  std::ranges::equal(tensor.bytes, talk.at(tensor.name).bytes))
          << locale << ": " << tensor.name;
  }
}

}  // namespace
}  // namespace rwkvx
