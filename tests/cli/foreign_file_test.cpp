// Files that a command reads, as people have them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "support/program.h"
#include "support/tiny_run.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

class ForeignFiles : public TinyRun {
 protected:
  std::string file(const std::string& name, const std::string& content) const {
    write_file(path(name), content);
    return path(name);
  }
  // The lines that `generate --input` writes for these.
  std::string batch(const std::string& lines) const {
    file("in.jsonl", lines);
    const auto result =
        run_program({"generate", "--model", path("run"), "--max-new-tokens", "3", "--input",
                     path("in.jsonl"), "--output", path("out.jsonl"), "--overwrite", "--quiet"});
    EXPECT_EQ(result.status, 0) << result.err;
    return result.status == 0 ? read_file(path("out.jsonl")) : "";
  }
};

TEST_F(ForeignFiles, MembersOfPromptLinesAreCopiedAsTheyAreWritten) {
  make_model();
  const auto out = batch(
      "{\"id\": 123456789012345678901234567890, \"prompt\": \"bird \\u00e9\", \"x\": [1.50, "
      "{\"a\": -0}]}\n"
      "{\"prompt\": \"fox\\ud800\", \"tab\": \"a\tb\"}\n");
  EXPECT_THAT(out, HasSubstr("\"id\":123456789012345678901234567890,"));
  EXPECT_THAT(out, HasSubstr("\"x\":[1.50, {\"a\": -0}]"));
  EXPECT_THAT(out, HasSubstr("\"prompt\":\"fox\\ud800\""));
  EXPECT_THAT(out, HasSubstr("\"tab\":\"a\\u0009b\""));
  EXPECT_EQ(json::parse(out.substr(0, out.find('\n')))["prompt"], "bird é");
  // It goes on from such lines too.
  const auto again =
      run_program({"generate", "--model", path("run"), "--max-new-tokens", "3", "--input",
                   path("in.jsonl"), "--output", path("out.jsonl"), "--quiet"});
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(read_file(path("out.jsonl")), out);
}

TEST_F(ForeignFiles, ATokenizerFarSmallerThanTheModelIsAWarningAndPaddingIsNone) {
  for (const auto& [size, warns] : {std::pair{"1000", true}, {"320", false}}) {
    const auto made =
        run_program(train_args({"--quiet", "--overwrite", "--set", "train.max_steps=1", "--set",
                                std::string("model.vocab_size=") + size}));
    ASSERT_EQ(made.status, 0) << made.err;
    const auto written =
        run_program({"generate", "--model", path("run"), "--prompt", "bird", "--max-new-tokens",
                     "300", "--temperature", "2", "--json-events"});
    EXPECT_EQ(written.status, 0) << written.err;
    EXPECT_EQ(written.err.find("has 257 ids, the model 1,000") != std::string::npos, warns)
        << written.err;
    // Ids that have no text are never drawn.
    std::istringstream lines(written.out);
    for (std::string line; std::getline(lines, line);)
      if (const auto event = json::parse(line); event["event"] == "token") {
        EXPECT_LT(event["token"], 257);
      }
  }
}

TEST_F(ForeignFiles, DeepAndOddLinesAreNamed) {
  make_model();
  const std::string deep = std::string(200000, '[') + std::string(200000, ']');
  file("in.jsonl", "{\"prompt\": \"x\"}\n{\"prompt\": \"x\", \"deep\": " + deep + "}\n");
  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"generate", "--model", path("run"), "--input", path("in.jsonl"),
                                 "--output", path("o.jsonl")},
        {"eval", "--model", path("run"), "--prompts", path("in.jsonl"), "--reference-field",
         "prompt", "--max-new-tokens", "2"},
        {"tokenizer", "train", "--input", path("in.jsonl"), "--text-field", "prompt", "--output",
         path("tok")}}) {
    const auto result = run_program(args);
    EXPECT_EQ(result.status, 3) << args[0] << result.err;
    EXPECT_THAT(result.err, HasSubstr("in.jsonl:2: ")) << args[0];
  }
  // What another program wrote is no reason for a raw exception.
  file("in.jsonl", "{\"prompt\": \"x\"}\n");
  for (const char* line : {"{\"settings\":3}\n", "[1]\n", "{\"settings\":[]}\n", "{\"a\": \n"}) {
    const auto result = run_program({"generate", "--model", path("run"), "--input",
                                     path("in.jsonl"), "--output", file("other.jsonl", line)});
    EXPECT_EQ(result.status, 3) << result.err;
    EXPECT_THAT(result.err, HasSubstr("other.jsonl:1: was not made with this model")) << line;
    EXPECT_EQ(read_file(path("other.jsonl")), line);
  }
}

TEST_F(ForeignFiles, InfoAnswersForEveryPath) {
  make_model();
  expect_refused(run_program({"info", "--model", path("none")}), 3, "none: there is no such");
  const auto odd = path("r\xffn");
  fs::copy(resolve_checkpoint(path("run")), odd, fs::copy_options::recursive);
  const auto result = run_program({"info", "--json", "--model", odd});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(json::parse(result.out)["path"].get<std::string>(), HasSubstr("r\ufffdn"));
  EXPECT_EQ(json::parse(result.out)["quantization"], "none");
  const auto empty = run_program({"info", "--model", ""});
  EXPECT_EQ(empty.status, 2) << empty.err;
  EXPECT_THAT(empty.err, Not(HasSubstr("filesystem error")));
}

TEST_F(ForeignFiles, CompressedTextIsMeasuredAsTheTextItHolds) {
  make_model();
  const auto plain = file("a.txt", "bird number 3 sings.\n");
  const auto packed = path("b.txt.gz");
  gzFile to = gzopen(packed.c_str(), "wb");
  gzputs(to,
         "\xEF\xBB\xBF"
         "bird number 3 sings.\n");
  gzclose(to);
  const auto loss = [&](const std::string& name) {
    const auto result = run_program({"eval", "--model", path("run"), "--text", name, "--quiet"});
    EXPECT_EQ(result.status, 0) << result.err;
    return result.status == 0 ? json::parse(result.out)["loss"].get<double>() : -1;
  };
  EXPECT_EQ(loss(packed), loss(plain));
  for (const char* name : {"c.parquet", "c.bin", "c.json"}) {
    const auto refused = run_program(
        {"eval", "--model", path("run"), "--text", file(name, "[\"letters\"]"), "--quiet"});
    EXPECT_EQ(refused.status, 3) << name << refused.err;
  }
}

TEST_F(ForeignFiles, TrainingRefusesWhatIsNoText) {
  const auto refused = [&](const std::string& content, const std::string& says) {
    write_file(path("text.txt"), content);
    const auto result = run_program(train_args({"--quiet"}));
    EXPECT_EQ(result.status, 3) << result.err;
    EXPECT_THAT(result.err, HasSubstr(says));
  };
  refused("PAR1\x15\x04 and columns", "text.txt: is a Parquet file; expected text");
  refused("\x89PNG\r\n", "is a PNG picture");
  refused(std::string("a\0b", 3), "is binary");
}

}  // namespace
}  // namespace rwkvx
