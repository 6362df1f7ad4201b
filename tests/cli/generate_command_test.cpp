// The commands that read a model: generate, info and eval --model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "rwkvx/formats/safetensors.h"
#include "support/program.h"
#include "support/tiny_run.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class ModelCommands : public TinyRun {
 protected:
  void SetUp() override { make_model(); }
  ProgramResult generate(std::vector<std::string> flags, const std::string& input = "",
                         const std::string& model = "run") const {
    flags.insert(flags.begin(), {"generate", "--model", path(model), "--max-new-tokens", "20"});
    return run_program(flags, input);
  }
  // A copy of the model whose tensors were edited, as a whole and undamaged checkpoint.
  void edit_tensors(const std::string& name,
                    const std::function<void(std::vector<TensorView>&)>& edit) const {
    const auto from = resolve_checkpoint(path("run"));
    const auto file = read_safetensors(from / kWeightsFile);
    auto tensors = file.tensors();
    edit(tensors);
    CheckpointWriter writer(path(name));
    fs::copy(from / kConfigFile, writer.path() / kConfigFile);
    fs::copy(from / kTokenizerFolder, writer.path() / kTokenizerFolder,
             fs::copy_options::recursive);
    write_safetensors(writer.path() / kWeightsFile, tensors, {});
    writer.commit();
  }
};

TEST_F(ModelCommands, TakeThePromptFromAFlagAFileOrStandardInput) {
  write_file(path("prompt.txt"), "bird number 3");
  const auto flag = generate({"--prompt", "bird number 3", "--seed", "7"});
  ASSERT_EQ(flag.status, 0) << flag.err;
  EXPECT_EQ(flag.err, "");
  EXPECT_THAT(flag.out, EndsWith("\n"));
  EXPECT_EQ(generate({"--prompt-file", path("prompt.txt"), "--seed", "7"}).out, flag.out);
  EXPECT_EQ(generate({"--seed", "7"}, "bird number 3").out, flag.out);
  EXPECT_EQ(generate({"--seed", "7", "--echo"}, "bird number 3").out, "bird number 3" + flag.out);
  EXPECT_NE(generate({"--seed", "8"}, "bird number 3").out, flag.out);
  EXPECT_EQ(generate({"--seed", "7", "--threads", "1"}, "bird number 3").out, flag.out);
  EXPECT_EQ(generate({"--prompt", "", "--temperature", "0"}).status, 0);
}

TEST_F(ModelCommands, StopBeforeAStopText) {
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> flags = {"--prompt", "bird number 3", "--temperature", "0"};
    flags.insert(flags.end(), more.begin(), more.end());
    return generate(flags).out;
  };
  const auto all = with({});
  const auto at = all.find_first_of("abcdefghijklmnopqrstuvwxyz ,", 1);
  ASSERT_NE(at, std::string::npos) << all;
  const auto stop = all.substr(at, 1);
  EXPECT_EQ(with({"--stop", stop, "--stop", "not there"}), all.substr(0, all.find(stop)) + "\n");
}

TEST_F(ModelCommands, RefuseFlagsOutOfRange) {
  expect_refused(generate({"--prompt", "a", "--top-p", "0"}), 2, "--top-p");
  expect_refused(generate({"--prompt", "a", "--top-p", "1.5"}), 2, "--top-p");
  expect_refused(generate({"--prompt", "a", "--temperature", "-1"}), 2, "--temperature");
  expect_refused(generate({"--prompt", "a", "--top-k", "few"}), 2, "--top-k");
  expect_refused(generate({"--prompt", "a", "--samplers", "temprature"}), 2,
                 "did you mean \"temperature\"");
  if (inference_program() == nullptr) {
    expect_refused(generate({"--prompt", "a", "--device", "gpu"}), 2,
                   "--device: expected auto, cpu");
    expect_refused(generate({"--prompt", "a", "--device", "cuda:99"}), 2,
                   "--device: expected cuda:99");
  }
  expect_refused(generate({"--prompt", "a", "--promt-file", "b"}), 2, "--prompt-file");
  expect_refused(generate({"--prompt", "a", "--prompt-file", "b"}), 2, "--prompt-file");
  expect_refused(generate({"--prompt-file", path("none.txt")}), 3, "none.txt");
}

TEST_F(ModelCommands, RefuseWhatIsNoModel) {
  expect_refused(generate({"--prompt", "a"}, "", "none"), 3, "none");
  expect_refused(generate({"--prompt", "a"}, "", "text.txt"), 3, "text.txt");
  expect_refused(run_program({"info", "--model", path("none")}), 3, "none");
  expect_refused(run_program({"eval", "--model", path("none"), "--text", path("text.txt")}), 3,
                 "none");
}

TEST_F(ModelCommands, NameATensorThatIsMissingMisshapedOrUnknown) {
  edit_tensors("missing", [](auto& tensors) {
    std::erase_if(tensors, [](const auto& t) { return t.name == "blocks.1.att.key.weight"; });
  });
  expect_refused(generate({"--prompt", "a"}, "", "missing"), 3,
                 "blocks.1.att.key.weight: is missing, expected shape (16, 16)");
  edit_tensors("misshaped", [](auto& tensors) {
    for (auto& t : tensors)
      if (t.name == "head.weight") {
        t.shape = {t.shape[0] / 2, 16};
        t.bytes = t.bytes.first(static_cast<std::size_t>(t.shape[0]) * 16 * 4);
      }
  });
  expect_refused(generate({"--prompt", "a"}, "", "misshaped"), 3,
                 "head.weight: expected shape (257, 16), got (128, 16)");
  edit_tensors("extra", [](auto& tensors) {
    auto copy = tensors.front();
    copy.name = "blocks.7.att.key.weight";
    tensors.push_back(copy);
  });
  expect_refused(generate({"--prompt", "a"}, "", "extra"), 3, "blocks.7.att.key.weight: is not");
}

TEST_F(ModelCommands, RefuseADamagedCheckpointByTensor) {
  const auto weights = resolve_checkpoint(path("run")) / kWeightsFile;
  auto bytes = read_file(weights);
  bytes[bytes.size() - 5] ^= 1;
  write_file(weights, bytes);
  expect_refused(generate({"--prompt", "a"}), 3, "head.weight: checksum");
}

TEST_F(ModelCommands, RefuseATokenizerThatTheModelWasNotTrainedWith) {
  // A checkpoint whose tokenizer was exchanged for a larger one.
  const auto trained = run_program({"tokenizer", "train", "--input", path("text.txt"), "--output",
                                    path("larger"), "--vocab-size", "289"});
  ASSERT_EQ(trained.status, 0) << trained.err;
  const auto from = resolve_checkpoint(path("run"));
  {
    CheckpointWriter writer(path("other"));
    fs::copy(from / kConfigFile, writer.path() / kConfigFile);
    fs::copy(from / kWeightsFile, writer.path() / kWeightsFile);
    fs::copy(path("larger"), writer.path() / kTokenizerFolder, fs::copy_options::recursive);
    writer.commit();
  }
  expect_refused(generate({"--prompt", "a"}, "", "other"), 3, "is not the tokenizer that");
}

TEST_F(ModelCommands, EvalGivesTheLossOfAText) {
  const auto result =
      run_program({"eval", "--model", path("run"), "--text", path("text.txt"), "--quiet"});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto found = json::parse(result.out);
  EXPECT_NEAR(std::exp(found["loss"].get<double>()), found["perplexity"].get<double>(), 1e-9);
  EXPECT_GT(found["bits_per_byte"].get<double>(), 0);
  EXPECT_EQ(found["words"], 400 * 7);
  EXPECT_NEAR(found["bits_per_word"].get<double>() * 2800,
              found["bits_per_byte"].get<double>() * found["bytes"].get<double>(), 1e-3);
  write_file(path("empty.txt"), "");
  expect_refused(run_program({"eval", "--model", path("run"), "--text", path("empty.txt")}), 3,
                 "empty.txt");
}

TEST_F(ModelCommands, EvalGivesTheLossByPosition) {
  const auto page = path("loss.html");
  const auto result = run_program({"eval", "--model", path("run"), "--text", path("text.txt"),
                                   "--quiet", "--by-position", "--report", page});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto found = json::parse(result.out);
  std::int64_t tokens = 0;
  double nats = 0;
  for (const auto& bucket : found["by_position"]) {
    EXPECT_EQ(bucket["from"], tokens);
    tokens += bucket["tokens"].get<std::int64_t>();
    nats += bucket["tokens"].get<double>() * bucket["loss"].get<double>();
  }
  EXPECT_EQ(found["tokens"], tokens);
  EXPECT_NEAR(nats / static_cast<double>(tokens), found["loss"].get<double>(), 1e-9);
  EXPECT_EQ(found["trained_length"], 32);
  EXPECT_GT(found["loss_beyond"].get<double>(), 0);
  EXPECT_THAT(read_file(page), HasSubstr("Loss by position"));
}

TEST_F(ModelCommands, EvalTakesUpABrokenOffRunFromItsCache) {
  std::string prompts;
  for (int i = 0; i < 4; ++i)
    prompts += "{\"prompt\": \"bird number " + std::to_string(i) + "\", \"reference\": \"x\"}\n";
  write_file(path("prompts.jsonl"), prompts);
  const std::vector<std::string> args = {
      "eval",    "--model",          path("run"), "--prompts", path("prompts.jsonl"),
      "--quiet", "--max-new-tokens", "8",         "--cache",   path("cache")};
  const auto whole = run_program(args);
  ASSERT_EQ(whole.status, 0) << whole.err;
  const auto file = fs::directory_iterator(path("cache"))->path();
  const auto lines = read_file(file);
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 4);
  write_file(file, lines.substr(0, lines.size() / 2));  // cut off within a line
  const auto resumed = run_program(args);
  EXPECT_EQ(resumed.out, whole.out) << resumed.err;
  const auto again = run_program(args);
  EXPECT_EQ(again.out, whole.out) << again.err;
}

TEST_F(ModelCommands, EvalScoresContinuations) {
  write_file(path("prompts.jsonl"),
             "{\"prompt\": \"bird number 3\", \"reference\": \" sings\"}\n"
             "{\"prompt\": \"bird number 4\", \"reference\": [\" sings\", \"the fox\"]}\n");
  const std::vector<std::string> args = {
      "eval", "--model",       path("run"), "--prompts", path("prompts.jsonl"), "--max-new-tokens",
      "12",   "--temperature", "0",         "--quiet"};
  const auto result = run_program(args);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(json::parse(result.out)["n"], 2);
  EXPECT_TRUE(json::parse(result.out)["scores"].contains("rougeL"));
  EXPECT_EQ(run_program(args).out, result.out) << "the same again";
  write_file(path("bad.jsonl"), "{\"promt\": \"x\", \"reference\": \"y\"}\n");
  expect_refused(run_program({"eval", "--model", path("run"), "--prompts", path("bad.jsonl")}), 3,
                 "bad.jsonl:1");
}

TEST_F(ModelCommands, EndQuietlyWhenNobodyReadsAnyMore) {
  const std::string command = "'" + program_of("generate") + "' generate --model '" + path("run") +
                              "' --prompt a --max-new-tokens 100000 2>'" + path("err") +
                              "' | head -c 1 >'" + path("out") + "'";
  EXPECT_EQ(std::system(command.c_str()), 0);
  EXPECT_EQ(read_file(path("err")), "");
  EXPECT_EQ(read_file(path("out")).size(), 1u);
}

}  // namespace
}  // namespace rwkvx
