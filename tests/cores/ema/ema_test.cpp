// A core that the program does not know, added by one line (program.cpp), does all that a core can.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "cores/ema/ema_core.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/cores/names.h"
#include "rwkvx/formats/safetensors.h"
#include "support/program.h"
#include "support/random_weights.h"

namespace rwkvx {
namespace {

using testing::HasSubstr;

class Ema : public ::testing::Test {
 protected:
  Ema() {
    std::string text;
    for (int i = 0; i < 300; ++i) text += "bird " + std::to_string(i % 17) + " sings.\n";
    write_file(path("text.txt"), text);
    const nlohmann::json config = {
        {"model", {{"core", "ema"}, {"n_layer", 2}, {"n_embd", 16}, {"shift", {{"kind", "none"}}}}},
        {"tokenizer", {{"kind", "byte"}}},
        {"data", {{"train", path("text.txt")}}},
        {"train",
         {{"output", path("run")},
          {"ctx_len", 24},
          {"batch_size", 2},
          {"max_steps", 12},
          {"save_every", 6},
          {"eval_every", 6},
          {"eval_tokens", 256},
          {"learning_rate", 0.01},
          {"warmup_steps", 2},
          {"threads", 1}}}};
    write_file(path("ema.json"), config.dump());
  }
  std::string path(const std::string& name) const { return (scratch_ / name).string(); }
  ProgramResult run(const std::vector<std::string>& args) const {
    auto result = run_program(args);
    EXPECT_EQ(result.status, 0) << result.err;
    return result;
  }
  void train(const std::vector<std::string>& more) const {
    std::vector<std::string> args{"train", "--config", path("ema.json"), "--quiet"};
    args.insert(args.end(), more.begin(), more.end());
    run(args);
  }
  static std::string weights(const std::string& checkpoint) {
    return read_file(checkpoint + "/model.safetensors");
  }

 private:
  ScratchDirectory scratch_;
};

TEST_F(Ema, TrainsAndResumesBitForBit) {
  train({});
  namespace fs = std::filesystem;
  fs::copy(path("run"), path("half"), fs::copy_options::recursive);
  fs::remove_all(path("half/checkpoints/step-00000012"));
  train({"--set", "train.output=" + path("half"), "--resume"});
  EXPECT_TRUE(weights(path("run/checkpoints/step-00000012")) ==
              weights(path("half/checkpoints/step-00000012")));
  EXPECT_FALSE(weights(path("run/checkpoints/step-00000012")) ==
               weights(path("run/checkpoints/step-00000006")));
}

TEST_F(Ema, GeneratesInEveryPrecisionAndKeepsItsState) {
  train({});
  const std::vector<std::string> one{"generate", "--model",       path("run"), "--prompt",
                                     "bird 1",   "--temperature", "0"};
  auto args = one;
  args.insert(args.end(), {"--max-new-tokens", "20"});
  const auto whole = run(args).out;
  args = one;
  args.insert(args.end(), {"--max-new-tokens", "8", "--save-state", path("state")});
  const auto head = run(args).out;
  const auto tail = run({"generate", "--model", path("run"), "--temperature", "0",
                         "--max-new-tokens", "12", "--load-state", path("state")})
                        .out;
  const auto line = [](std::string text) {
    if (text.ends_with('\n')) text.pop_back();
    return text;
  };
  EXPECT_EQ(line(head) + line(tail), line(whole));
  const auto tensors = open_tensor_file(path("state"));
  EXPECT_NE(tensors.find("blocks.1.ema.mean"), nullptr);
  for (const char* type : {"bf16", "int8", "int4"}) {
    run({"quantize", path("run"), path(type), "--type", type});
    EXPECT_FALSE(run({"generate", "--model", path(type), "--prompt", "bird", "--max-new-tokens",
                      "5", "--temperature", "0"})
                     .out.empty());
  }
}

TEST_F(Ema, IsExplainedCountedScoredAndMeasured) {
  EXPECT_THAT(run({"train", "--config", path("ema.json"), "--explain"}).out,
              testing::AllOf(HasSubstr("blocks.1.ema.decay"), HasSubstr("orthogonal, gain 1"),
                             HasSubstr("2x")));
  train({});
  EXPECT_THAT(run({"info", "--model", path("run"), "--json"}).out, HasSubstr("\"core\": \"ema\""));
  EXPECT_THAT(run({"inspect", "--model", path("run"), "--prompt", "bird", "--json"}).out,
              HasSubstr("half_lives"));
  EXPECT_THAT(run({"eval", "--model", path("run"), "--text", path("text.txt")}).out,
              HasSubstr("loss"));
  run({"bench", "train", "--config", path("ema.json"), "--rounds", "1"});
  run({"bench", "decode", "--model", path("run"), "--rounds", "1", "--tokens", "2"});
}

TEST(EmaNames, AFileOfItsTensorsIsRecognized) {
  register_core(test::kEma);
  ModelConfig config;
  config.core = "ema";
  config.n_layer = 1, config.n_embd = 4, config.vocab_size = 5;
  config.shift.kind = ShiftKind::kNone;
  const ScratchDirectory scratch;
  test::write_random_weights(config, scratch / "ema.safetensors");
  const auto found = infer_config(open_tensors(scratch / "ema.safetensors"));
  EXPECT_EQ(config_to_json(found)["core"], "ema");
  EXPECT_EQ(found.n_embd, 4);
  EXPECT_EQ(found.vocab_size, 5);
}

}  // namespace
}  // namespace rwkvx
