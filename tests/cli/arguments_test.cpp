// How the program reads its command line, whatever the subcommand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>
#include <tuple>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/program.h"
#include "support/tiny_run.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

class Arguments : public TinyRun {
 protected:
  void SetUp() override { make_model(); }
  ProgramResult generate(std::vector<std::string> flags, const std::string& input = "") const {
    flags.insert(flags.begin(), {"generate", "--model", path("run")});
    return run_program(flags, input);
  }
  // What `--echo --max-new-tokens 0` prints, which is the prompt as the program got it.
  std::string echoed(const std::vector<std::string>& flags) const {
    auto all = flags;
    all.insert(all.end(), {"--echo", "--max-new-tokens", "0"});
    const auto result = generate(all, "from standard input");
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  }
};

TEST_F(Arguments, TakeATextAsItIs) {
  for (const std::string text :
       {"[END]", "[a,b]", "[]", "{}", "%%", "a,b", "\"quoted\"", "--- title", "-5 degrees", "=",
        "a=b", "$HOME", "'", " ", "\\", "value-0"}) {
    EXPECT_EQ(echoed({"--prompt", text}), text + "\n");
    EXPECT_EQ(echoed({"--prompt=" + text}), text + "\n");
  }
  EXPECT_EQ(echoed({"--prompt=--max-new-tokens"}), "--max-new-tokens\n");
  EXPECT_EQ(echoed({"--prompt="}), "\n");
  EXPECT_EQ(echoed({"--prompt", ""}), "\n");
}

TEST_F(Arguments, TakeAStopTextAsItIs) {
  // A text that the model is forced to begin with ends where the stop text begins.
  const auto forced = [&](const std::string& text, const std::vector<std::string>& stops) {
    std::vector<std::string> flags = {
        "--prompt", "a", "--prefix", text, "--max-new-tokens", std::to_string(text.size())};
    for (const auto& stop : stops) flags.insert(flags.end(), {"--stop", stop});
    const auto result = generate(flags);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  };
  EXPECT_EQ(forced("x END y [END] z", {"[END]"}), "x END y \n");
  EXPECT_EQ(forced("a b [a,b] c", {"[a,b]"}), "a b \n");
  EXPECT_EQ(forced("x [] y", {"[]"}), "x \n");
  EXPECT_EQ(forced("x {} y", {"{}"}), "x \n");
  EXPECT_EQ(forced("one two three", {"three", "two"}), "one \n");
}

TEST_F(Arguments, NeverTakeAnOptionForAValue) {
  expect_refused(generate({"--prompt", "a", "--stop", "--max-new-tokens", "5"}), 2,
                 "--stop: expected a value (TEXT), got the option --max-new-tokens; write "
                 "--stop=--max-new-tokens to take it as the value");
  expect_refused(generate({"--prompt", "--temprature", "5"}), 2, "--prompt: expected a value");
  expect_refused(generate({"--prompt"}), 2, "--prompt: expected a value (TEXT), got nothing");
  expect_refused(run_program({"info", "--model", "--json"}), 2, "--model: expected a value");
  expect_refused(generate({"--prompt-file", ""}), 2,
                 "--prompt-file: expected a file name, got an empty value");
  expect_refused(generate({"--quiet=yes"}), 2, "--quiet: takes no value");
}

TEST_F(Arguments, LetTheLastOfTwoCount) {
  EXPECT_EQ(echoed({"--prompt", "one", "--prompt", "two"}), "two\n");
  const auto once = generate({"--prompt", "a", "--seed", "2", "--max-new-tokens", "9"});
  EXPECT_EQ(generate({"--seed", "1", "--max-new-tokens", "20", "--prompt", "a", "--seed", "2",
                      "--max-new-tokens=9"})
                .out,
            once.out);
  write_file(path("p"), "{\"prediction\": \"a b\", \"reference\": \"a c\"}\n");
  EXPECT_EQ(run_program({"eval", "--pairs", path("none"), "--pairs", path("p"), "--quiet",
                         "--metrics", "bleu", "--metrics", "rouge1", "--quiet"})
                .status,
            0);
  EXPECT_EQ(
      run_program({"info", "--model", "none", "--model", path("run"), "--json", "--json"}).status,
      0);
}

TEST_F(Arguments, ReadNumbersAsPeopleWriteThem) {
  const auto with = [&](const std::string& temperature, const std::string& tokens) {
    const auto result = generate(
        {"--prompt", "a", "--seed", "3", "--temperature", temperature, "--max-new-tokens", tokens});
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  };
  const auto wanted = with("0.8", "10");
  for (const auto* number : {".8", "+0.8", "8e-1", "0.80", "+.8", "8.e-1"})
    EXPECT_EQ(with(number, "10"), wanted) << number;
  for (const auto* number : {"+10", "1e1", "10.", "1_0", "10.0", "010"})
    EXPECT_EQ(with(".8", number), wanted) << number;
  EXPECT_EQ(with("1.", "1e1"), with("1", "10"));
  for (const auto* wrong : {"", "few", "0x10", "1,5", "1.5.2", "nan", "inf", "1e", "--5", "1_",
                            "_1", "1e999", " 1", "½"})
    expect_refused(generate({"--prompt", "a", std::string("--temperature=") + wrong}), 2,
                   "--temperature: expected a number");
  for (const auto* wrong : {"1.5", "few", "1e-1", "99999999999999999999"})
    expect_refused(generate({"--prompt", "a", "--top-k", wrong}), 2,
                   "--top-k: expected a whole number");
}

TEST_F(Arguments, SayARangeInAFewWords) {
  for (const auto& [flag, value, wanted] :
       {std::tuple{"--batch", "0", "expected at least 1, got 0"},
        std::tuple{"--threads", "-1", "expected at least 0, got -1"},
        std::tuple{"--samples", "0", "expected at least 1, got 0"}}) {
    const auto result = generate({"--prompt", "a", flag, value});
    expect_refused(result, 2, std::string(flag) + ": " + wanted);
    EXPECT_LT(result.err.size(), 120U);
  }
  expect_refused(run_program({"data", "pairs", "--input", "a", "--output", "b", "--tail", "0.9"}),
                 2, "--tail: expected 1e-06 to 0.5, got 0.9");
  expect_refused(
      run_program({"tokenizer", "train", "--input", "a", "--output", "b", "--vocab-size", "10"}), 2,
      "--vocab-size: expected 270 to 1048576, got 10");
}

TEST_F(Arguments, NameTheNearestOptionOfTheSameSubcommand) {
  expect_refused(generate({"--temp", "1"}), 2,
                 "unknown option --temp; did you mean \"--temperature\"? (see rwkvx generate "
                 "--help)");
  expect_refused(generate({"--promt=1"}), 2, "did you mean \"--prompt\"?");
  expect_refused(run_program({"bench", "train", "--repeat", "2"}), 2,
                 "unknown option --repeat (see rwkvx bench train --help)");
  expect_refused(run_program({"bench", "train", "--round", "2"}), 2,
                 "did you mean \"--rounds\"? (see rwkvx bench train --help)");
  expect_refused(run_program({"bench", "decode", "--round", "2"}), 2, "\"--rounds\"");
  expect_refused(run_program({"tokenizer", "encode", "--piece"}), 2,
                 "\"--pieces\"? (see rwkvx tokenizer encode --help)");
  expect_refused(run_program({"genrate"}), 2, "unknown word genrate; did you mean \"generate\"?");
  expect_refused(run_program({"generate", "text"}), 2, "unknown word text");
  expect_refused(generate({"-x"}), 2, "unknown option -x");
}

TEST_F(Arguments, KeepOldNamesWithANotice) {
  const auto current = generate({"--prompt", "a", "--prefix", "xyz", "--ban-text", "e",
                                 "--max-new-tokens", "9", "--typical-p", "0.9"});
  const auto old = generate(
      {"--prompt", "a", "--force=xyz", "--ban", "e", "--max-tokens", "9", "--typical", "0.9"});
  EXPECT_EQ(old.status, 0) << old.err;
  EXPECT_EQ(old.out, current.out);
  EXPECT_EQ(current.err, "");
  EXPECT_THAT(old.err,
              HasSubstr("rwkvx: warning: --force: renamed to --prefix; the old name works in this "
                        "release only\n"));
  EXPECT_EQ(std::count(old.err.begin(), old.err.end(), '\n'), 4) << old.err;
  EXPECT_THAT(generate({"--help"}).out, Not(HasSubstr("--force")));
  EXPECT_THAT(run_program({"bench", "train", "--repeats", "0"}).err,
              HasSubstr("--rounds: expected at least 1, got 0"));
}

TEST_F(Arguments, PrintTheHelpWhereThereAreNone) {
  const auto help = run_program({"--help"}), none = run_program({});
  EXPECT_EQ(none.status, 0);
  EXPECT_EQ(none.err, "");
  EXPECT_EQ(none.out, help.out);
  EXPECT_THAT(none.out, HasSubstr("quantize"));
}

TEST_F(Arguments, HelpFits80Columns) {
  for (const std::string& command :
       {std::string(), std::string("train"), std::string("generate"), std::string("quantize"),
        std::string("info"), std::string("inspect"), std::string("tokenizer train"),
        std::string("data build"), std::string("bench train"), std::string("bench decode"),
        std::string("study run")}) {
    std::vector<std::string> words;
    std::istringstream split(command);
    for (std::string word; split >> word;) words.push_back(word);
    words.emplace_back("--help");
    const auto help = run_program(words);
    EXPECT_EQ(help.status, 0) << command;
    std::istringstream lines(help.out);
    for (std::string line; std::getline(lines, line);)
      EXPECT_LE(line.size(), 80U) << command << ": " << line;
  }
}

TEST_F(Arguments, RefuseFlagsWithoutEffect) {
  write_file(path("in"), "{\"prompt\": \"a\"}\n");
  const auto refused = [&](std::vector<std::string> flags, const std::string& flag) {
    expect_refused(generate(std::move(flags)), 2, flag + ": has no effect");
  };
  refused({"--input", path("in"), "--output", path("o"), "--echo"}, "--echo");
  refused({"--prompt", "a", "--overwrite"}, "--overwrite");
  refused({"--prompt", "a", "--batch", "3"}, "--batch");
  refused({"--prompt", "a", "--prompt-field", "x"}, "--prompt-field");
  refused({"--prompt", "a", "--prompt-cache-mib", "3"}, "--prompt-cache-mib");
  refused({"--prompt", "a", "--echo", "--json-events"}, "--echo");
  refused({"--prompt", "a", "--samplers", "top_k", "--temperature", "0"}, "--temperature");
  refused({"--prompt", "a", "--samplers", "temperature", "--top-p", "0.5"}, "--top-p");
  refused({"--prompt", "a", "--samplers", "temperature", "--presence-penalty", "1"},
          "--presence-penalty");
  refused({"--prompt", "a", "--penalty-decay", "0.5"}, "--penalty-decay");
  EXPECT_EQ(generate({"--prompt", "a", "--samplers", "top_k", "--temperature", "1", "--top-k", "3",
                      "--max-new-tokens", "1"})
                .status,
            0)
      << "the value that changes nothing";
  const auto eval = [&](std::vector<std::string> flags, const std::string& flag) {
    flags.insert(flags.begin(), "eval");
    expect_refused(run_program(flags), 2, flag + ": has no effect");
  };
  eval({"--pairs", path("in"), "--max-new-tokens", "3"}, "--max-new-tokens");
  eval({"--pairs", path("in"), "--by-position"}, "--by-position");
  eval({"--pairs", path("in"), "--bleu-tokenizer", "char"}, "--bleu-tokenizer");
  eval({"--pairs", path("in"), "--resamples", "10"}, "--resamples");
  eval({"--model", path("run"), "--text", path("text.txt"), "--metrics", "bleu"}, "--metrics");
  eval({"--model", path("run"), "--text", path("text.txt"), "--stop", "x"}, "--stop");
}

TEST_F(Arguments, AFullDiskIsAnErrorOfEveryCommand) {
  write_file(path("in"), "{\"prompt\": \"a\", \"prediction\": \"a\", \"reference\": \"a\"}\n");
  for (const std::string& command :
       {std::string("--help"), std::string("--version"), std::string("generate --help"),
        "info --model " + path("run"), "info --json --model " + path("run"),
        "generate --prompt a --max-new-tokens 3 --model " + path("run"),
        "eval --quiet --pairs " + path("in"), std::string("bench decode --help"),
        "tokenizer encode --tokenizer byte --input " + path("text.txt")}) {
    const auto line = "'" + program_of("") + "' " + command + " >/dev/full 2>'" + path("err") + "'";
    EXPECT_NE(std::system(line.c_str()), 0) << command;
    const auto err = read_file(path("err"));
    EXPECT_THAT(err, HasSubstr("rwkvx: error: standard output: cannot")) << command;
    EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1) << command << err;
  }
}

TEST_F(Arguments, ClosedMessagesStopNothing) {
  const auto line = "( '" + program_of("eval") + "' eval --model '" + path("run") + "' --text '" +
                    path("text.txt") + "' >'" + path("out") + "'; echo $? >'" + path("rc") +
                    "' ) 2>&1 | true";
  EXPECT_EQ(std::system(line.c_str()), 0);
  EXPECT_EQ(read_file(path("rc")), "0\n");
  EXPECT_TRUE(json::parse(read_file(path("out"))).contains("loss"));
}

}  // namespace
}  // namespace rwkvx
