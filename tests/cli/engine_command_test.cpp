// What the engine adds to the commands: batches, state files, the prompt cache, quantized weights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/program.h"
#include "support/random_weights.h"
#include "support/tiny_run.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

class EngineCommands : public TinyRun {
 protected:
  void SetUp() override { make_model(); }
  ProgramResult generate(std::vector<std::string> flags, const std::string& model = "run") const {
    flags.insert(flags.begin(), {"generate", "--model", path(model), "--seed", "5", "--quiet"});
    if (std::find(flags.begin(), flags.end(), "--max-new-tokens") == flags.end())
      flags.insert(flags.end(), {"--max-new-tokens", "24"});
    return run_program(flags);
  }
  std::vector<json> lines(const std::string& file) const {
    std::vector<json> out;
    std::istringstream text(read_file(path(file)));
    for (std::string line; std::getline(text, line);) out.push_back(json::parse(line));
    return out;
  }
  void write_prompts(int count) const {
    std::string text;
    for (int i = 0; i < count; ++i)
      text +=
          json{{"id", i}, {"prompt", "bird number " + std::string(static_cast<size_t>(i % 7), 'x')}}
              .dump() +
          "\n";
    write_file(path("prompts.jsonl"), text);
  }
};

TEST_F(EngineCommands, ABatchGivesTheSameBytesForEveryWidthAndNumberOfThreads) {
  write_prompts(21);
  const auto run = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> flags{"--input", path("prompts.jsonl"), "--output", path(out)};
    flags.insert(flags.end(), more.begin(), more.end());
    const auto result = generate(flags);
    EXPECT_EQ(result.status, 0) << result.err;
    return read_file(path(out));
  };
  const auto one = run("one.jsonl", {"--batch", "1", "--threads", "1"});
  EXPECT_EQ(run("many.jsonl", {"--batch", "16", "--threads", "2"}), one);
  EXPECT_EQ(run("cached.jsonl", {"--prompt-cache", path("cache")}), one);
  EXPECT_EQ(run("cached2.jsonl", {"--prompt-cache", path("cache")}), one);
  // Random stream 0 is that of a single prompt.
  const auto first = lines("one.jsonl").front();
  EXPECT_EQ(generate({"--prompt", first["prompt"]}).out,
            first["prediction"].get<std::string>() + "\n");
  EXPECT_EQ(first["id"], 0);
}

TEST_F(EngineCommands, ABatchGoesOnWhereItStopped) {
  write_prompts(9);
  const std::vector<std::string> flags{
      "--input", path("prompts.jsonl"), "--output", path("out.jsonl"), "--samples", "3", "--batch",
      "4"};
  ASSERT_EQ(generate(flags).status, 0);
  const auto whole = read_file(path("out.jsonl"));
  ASSERT_EQ(lines("out.jsonl").size(), 27u);
  for (const std::size_t kept :
       {std::size_t{0}, whole.size() / 5, whole.size() / 2, whole.size()}) {
    write_file(path("out.jsonl"), whole.substr(0, kept));
    ASSERT_EQ(generate(flags).status, 0);
    EXPECT_EQ(read_file(path("out.jsonl")), whole) << kept;
  }
  auto other = flags;
  other.insert(other.end(), {"--temperature", "0.5"});
  expect_refused(generate(other), 3, "was not made with this model and these settings");
  EXPECT_EQ(read_file(path("out.jsonl")), whole);
  other.push_back("--overwrite");
  EXPECT_EQ(generate(other).status, 0);
}

TEST_F(EngineCommands, ABatchNamesWhatIsWrongWithItsInput) {
  const auto with = [&](const std::string& text) {
    write_file(path("bad.jsonl"), text);
    return generate({"--input", path("bad.jsonl"), "--output", path("out.jsonl")});
  };
  expect_refused(with("{\"prompt\": \"a\"}\n{\"promt\": \"b\"}\n"), 3, "bad.jsonl:2");
  expect_refused(with("{\"prompt\": 3}\n"), 3, "must be a string");
  expect_refused(with("{\"prompt\": \"a\"\n"), 3, "bad.jsonl:1");
  expect_refused(with(""), 3, "holds no prompts");
  expect_refused(generate({"--input", path("prompts.jsonl")}), 2, "--output");
  write_prompts(3);
  expect_refused(generate({"--input", path("prompts.jsonl"), "--output", path("no/such/file")}), 3,
                 "no/such/file");
  if (fs::exists("/dev/full"))
    expect_refused(generate({"--input", path("prompts.jsonl"), "--output", "/dev/full"}), 3,
                   "/dev/full");
}

TEST_F(EngineCommands, AStateFileGoesOnWithTheSameText) {
  const auto whole = generate({"--prompt", "bird number 3"}).out;
  ASSERT_EQ(
      generate({"--prompt", "bird number 3", "--max-new-tokens", "0", "--save-state", path("s")})
          .status,
      0);
  EXPECT_EQ(generate({"--prompt", "", "--load-state", path("s")}).out, whole);
  // In two pieces, the random numbers go on too.
  const auto first =
      generate({"--prompt", "bird number 3", "--max-new-tokens", "10", "--save-state", path("t")});
  const auto second =
      generate({"--prompt", "", "--max-new-tokens", "14", "--load-state", path("t")});
  EXPECT_EQ(first.out.substr(0, first.out.size() - 1) + second.out, whole);
}

TEST_F(EngineCommands, RefuseAStateThatIsDamagedOrOfAnotherModel) {
  ASSERT_EQ(generate({"--prompt", "a", "--save-state", path("s")}).status, 0);
  auto bytes = read_file(path("s"));
  for (const auto at : {bytes.size() / 2, bytes.size() - 3, std::size_t{40}}) {
    auto altered = bytes;
    altered[at] = static_cast<char>(altered[at] ^ 0x20);
    write_file(path("altered"), altered);
    EXPECT_EQ(generate({"--prompt", "", "--load-state", path("altered")}).status, 3) << at;
  }
  write_file(path("short"), bytes.substr(0, bytes.size() / 2));
  expect_refused(generate({"--prompt", "", "--load-state", path("short")}), 3, "short");
  expect_refused(generate({"--prompt", "", "--load-state", path("text.txt")}), 3, "text.txt");
  ASSERT_EQ(run_program({"quantize", path("run"), path("q8"), "--type", "int8"}).status, 0);
  expect_refused(generate({"--prompt", "", "--load-state", path("s")}, "q8"), 3,
                 "is the state of another model");
}

TEST_F(EngineCommands, ThePromptCacheIsBoundedAndSurvivesDamage) {
  std::string prompt;
  for (int i = 0; i < 120; ++i) prompt += "bird number " + std::to_string(i) + "\n";
  const auto plain = generate({"--prompt", prompt}).out;
  EXPECT_EQ(generate({"--prompt", prompt, "--prompt-cache", path("cache")}).out, plain);
  std::size_t files = 0;
  for (const auto& one : fs::directory_iterator(path("cache"))) {
    ++files;
    auto bytes = read_file(one.path());
    bytes[bytes.size() - 9] ^= 1;
    write_file(one.path(), bytes);
  }
  EXPECT_GE(files, 2u);
  EXPECT_EQ(generate({"--prompt", prompt, "--prompt-cache", path("cache")}).out, plain);
  EXPECT_EQ(generate({"--prompt", prompt, "--prompt-cache", path("cache")}).out, plain);
}

TEST_F(EngineCommands, EventsSamplesForcedAndBannedText) {
  const auto events = generate({"--prompt", "bird", "--json-events"});
  ASSERT_EQ(events.status, 0) << events.err;
  std::istringstream text(events.out);
  std::string joined;
  double logprob = 0;
  json last;
  for (std::string line; std::getline(text, line);) {
    last = json::parse(line);
    if (last["event"] != "token") continue;
    joined += last["text"].get<std::string>();
    logprob += last["logprob"].get<double>();
  }
  EXPECT_EQ(last["event"], "end");
  EXPECT_NEAR(last["logprob"], logprob, 1e-9);
  EXPECT_EQ(joined + "\n", generate({"--prompt", "bird"}).out);

  const auto samples = generate({"--prompt", "bird", "--samples", "3"});
  std::istringstream three(samples.out);
  std::string line;
  std::getline(three, line);
  EXPECT_EQ(json::parse(line)["prediction"], joined);

  EXPECT_THAT(generate({"--prompt", "bird", "--prefix", " number 9"}).out,
              ::testing::StartsWith(" number 9"));
  EXPECT_THAT(generate({"--prompt", "bird", "--ban-text", "e", "--max-new-tokens", "200"}).out,
              ::testing::Not(HasSubstr("e")));
  EXPECT_EQ(generate({"--prompt", "\xff\xfe"}).status, 0);  // a byte model takes every byte
}

TEST_F(EngineCommands, QuantizedWeightsGenerateAndAreScored) {
  for (const char* type : {"bf16", "int8", "int4"}) {
    const auto made = run_program({"quantize", path("run"), path(type), "--type", type, "--text",
                                   path("text.txt"), "--json", "--quiet"});
    ASSERT_EQ(made.status, 0) << made.err;
    const auto result = json::parse(made.out);
    EXPECT_NEAR(
        result["perplexity_after"].get<double>() / result["perplexity_before"].get<double>(), 1,
        type == std::string("int4") ? 0.05 : 0.01)
        << type;
    EXPECT_LT(result["bytes_after"], result["bytes_before"]);
    double bytes = 0;
    for (const auto& matrix : result["matrices"]) {
      bytes += matrix["bytes"].get<double>();
      EXPECT_LE(matrix["error"].get<double>(), result["worst_error"].get<double>());
      EXPECT_GE(matrix["wide_weights"].get<int>(), 0);
      EXPECT_GE(matrix["outlier_columns"].get<int>(), 0);
    }
    EXPECT_LE(bytes, result["bytes_after"].get<double>());
    EXPECT_GT(bytes, result["bytes_after"].get<double>() / 2);
    EXPECT_EQ(generate({"--prompt", "bird"}, type).status, 0);
    const auto eval =
        run_program({"eval", "--model", path(type), "--text", path("text.txt"), "--quiet"});
    EXPECT_EQ(eval.status, 0) << eval.err;
    EXPECT_THAT(eval.out + eval.err, HasSubstr(type));
  }
  expect_refused(run_program({"quantize", path("run"), path("int8"), "--type", "int8"}), 3,
                 "already exists");
  expect_refused(run_program({"quantize", path("int8"), path("again"), "--type", "int4"}), 3,
                 "quantized already");
  expect_refused(run_program({"quantize", path("run"), path("x"), "--type", "int3"}), 2, "int3");
  const auto quantize = [&](const std::string& model) {
    return run_program({"quantize", model, path("x"), "--tokenizer", "ids:100000"});
  };
  expect_refused(quantize(path("run")), 3, "is not the tokenizer that the model was trained with");
  ASSERT_EQ(run_program({"convert", path("run"), path("w.safetensors")}).status, 0);
  expect_refused(quantize(path("w.safetensors")), 3,
                 "too small for its tokenizer's 100001 ids; name the model's own with --tokenizer");
  EXPECT_FALSE(std::filesystem::exists(path("x")));
}

// Such models are of bytes only where they were trained so.
TEST_F(EngineCommands, AModelOf256NumbersIsNoModelOfBytes) {
  ModelConfig config;
  config.n_layer = 1, config.n_embd = 16, config.vocab_size = 256;
  const auto weights = path("weights.safetensors");
  test::write_random_weights(config, weights);
  ASSERT_EQ(run_program({"quantize", weights, path("ids"), "--tokenizer", "ids:256:none"}).status,
            0);
  EXPECT_EQ(generate({"--prompt", "1 2"}, "ids").status, 0);
  expect_refused(generate({"--prompt", "1 2", "--tokenizer", "byte"}, "ids"), 3,
                 "byte: is not the tokenizer that the model was trained with");
  ASSERT_EQ(run_program({"quantize", weights, path("bytes"), "--tokenizer", "byte"}).status, 0);
  EXPECT_EQ(generate({"--prompt", "ab", "--tokenizer", "byte"}, "bytes").status, 0);
}

TEST(BenchDecodeCommand, MeasuresEveryPrecisionOfBothModels) {
  const auto result = run_program({"bench", "decode", "--shape", "tiny", "--rounds", "1",
                                   "--tokens", "3", "--prompt", "32", "--batch", "2", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto bench = json::parse(result.out);
  EXPECT_EQ(bench["series"].size(), 8u);
  for (const auto& one : bench["series"]) EXPECT_GT(one["tokens_per_second"]["median"], 0);
  EXPECT_GT(bench["bandwidth"]["median"], 0);
  expect_refused(run_program({"bench", "decode", "--types", "int5"}), 2, "int5");
}

}  // namespace
}  // namespace rwkvx
