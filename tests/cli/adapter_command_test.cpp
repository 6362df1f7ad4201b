// Adapters in the commands: --adapter, --merge, info and convert.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "rwkvx/adapters/apply.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/adapters.h"
#include "support/program.h"
#include "support/random_weights.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;
using Words = std::vector<std::string>;

class AdapterCommand : public ::testing::TestWithParam<std::string> {
 protected:
  AdapterCommand() {
    config_.core = GetParam();
    config_.n_layer = 2, config_.n_embd = 64, config_.vocab_size = 257;
    config_.shift.kind = ShiftKind::kNone;
    test::write_random_weights(config_, path("base.safetensors"));
    base_ = path("base.safetensors");
  }
  std::string path(const std::string& name) const { return (scratch_ / name).string(); }
  std::string write(const std::string& name, Adapter adapter) const {
    adapter.base_hash = hash_file(base_);
    write_adapter(path(name), adapter);
    return path(name);
  }
  std::string lora() const { return write("lora.safetensors", test::random_lora(config_, 4, 8)); }
  std::string state() const { return write("state.safetensors", test::random_state(config_)); }
  std::string shift() const { return write("shift.safetensors", test::random_shift(config_)); }
  ProgramResult generate(const std::string& model, const Words& more = {},
                         const std::string& prompt = "birds sing") const {
    Words words = {"generate", "--model",  model,  "--tokenizer",      "byte", "--device",
                   "cpu",      "--prompt", prompt, "--max-new-tokens", "40",   "--json-events",
                   "--seed",   "3"};
    words.insert(words.end(), more.begin(), more.end());
    return run_program(words);
  }
  // The drawn tokens with their probabilities, without the times.
  std::string drawn(const std::string& model, const Words& more = {},
                    const std::string& prompt = "birds sing") const {
    const auto result = generate(model, more, prompt);
    EXPECT_EQ(result.status, 0) << result.err;
    std::string out;
    for (std::size_t begin = 0; begin < result.out.size();) {
      const auto end = result.out.find('\n', begin);
      const auto event = json::parse(result.out.substr(begin, end - begin));
      if (event.contains("token"))
        out += event["token"].dump() + " " + event["logprob"].dump() + "\n";
      begin = end + 1;
    }
    return out;
  }
  void run(const Words& words) const {
    const auto result = run_program(words);
    ASSERT_EQ(result.status, 0) << result.err;
  }

  ScratchDirectory scratch_;
  ModelConfig config_;
  std::string base_;
};

TEST_P(AdapterCommand, AMergedModelDrawsWhatTheAdapterDraws) {
  const auto a = lora(), f = shift();
  const auto plain = drawn(base_), with = drawn(base_, {"--adapter", a});
  EXPECT_NE(plain, "");
  EXPECT_NE(with, plain);
  run({"convert", base_, path("m.pth"), "--merge", a});
  EXPECT_EQ(drawn(path("m.pth")), with);
  run({"convert", base_, path("m"), "--to", "checkpoint", "--tokenizer", "byte", "--merge", a});
  EXPECT_EQ(drawn(path("m")), with);
  EXPECT_EQ(drawn(base_, {"--adapter", a + ":0"}), plain);

  const Words both = {"--adapter", f, "--adapter", a + ":0.5"};
  run({"convert", base_, path("both.safetensors"), "--merge", f, "--merge", a + ":0.5"});
  EXPECT_EQ(drawn(path("both.safetensors")), drawn(base_, both));
  EXPECT_NE(drawn(base_, both), with);
  const auto info = run_program({"info", "--model", path("m"), "--json"});
  EXPECT_EQ(json::parse(info.out)["provenance"]["adapters"][0]["file"], "lora.safetensors");
  EXPECT_EQ(json::parse(info.out)["provenance"]["base"], hash_file(base_));
}

TEST_P(AdapterCommand, EveryFormatTakesTheMergedWeights) {
  const auto a = lora();
  const auto with = drawn(base_, {"--adapter", a});
  run({"convert", base_, path("hf"), "--to", "hf", "--merge", a});
  EXPECT_EQ(drawn(path("hf")), with);
  if (GetParam() == "rwkv7") {
    run({"convert", base_, path("m.gguf"), "--type", "f32", "--tokenizer", "byte", "--merge", a});
    EXPECT_EQ(drawn(path("m.gguf")), with);
  }
  // Onto bfloat16, whose other weights stay as they are.
  run({"convert", base_, path("half.pth"), "--type", "bf16"});
  run({"convert", path("half.pth"), path("m.pth"), "--merge", a, "--adapter-any-base"});
  EXPECT_EQ(drawn(path("half.pth"), {"--adapter", a, "--adapter-any-base"}), drawn(path("m.pth")));
  const auto types = json::parse(run_program({"info", "--model", path("m.pth"), "--json"}).out);
  EXPECT_GT(types["tensors"]["BF16"], 0);
  EXPECT_GT(types["tensors"]["F32"], 0);
}

TEST_P(AdapterCommand, AStateBeginsTheText) {
  const auto s = state();
  const auto with = drawn(base_, {"--adapter", s});
  EXPECT_NE(with, drawn(base_));
  expect_refused(run_program({"convert", base_, path("m.pth"), "--merge", s}), 2,
                 "--merge: an initial state cannot be merged");
  const auto other = run_program({"convert", s, path("s.pth")});
  if (GetParam() == "rwkv4") {
    expect_refused(other, 3, "has no place in the layout of RWKV-PEFT");
    return;
  }
  ASSERT_EQ(other.status, 0) << other.err;
  EXPECT_EQ(drawn(base_, {"--adapter", path("s.pth")}), with);
  EXPECT_EQ(drawn(base_, {"--load-state", path("s.pth")}), with);
  expect_refused(generate(base_, {"--load-state", s}), 3, "use it with --adapter");
  expect_refused(generate(base_, {"--load-state", path("s.pth"), "--adapter", s}), 3,
                 "second initial state");
}

TEST_P(AdapterCommand, StatesAndCachesOfAnotherAdapterAreNotTaken) {
  const auto a = lora(), s = state();
  ASSERT_EQ(run_program({"generate", "--model", base_, "--tokenizer", "byte", "--device", "cpu",
                         "--prompt", "x", "--adapter", a, "--save-state", path("x.state")})
                .status,
            0);
  expect_refused(generate(base_, {"--load-state", path("x.state")}), 3,
                 "is the state of another model");
  EXPECT_EQ(generate(base_, {"--load-state", path("x.state"), "--adapter", a}).status, 0);

  std::string prompt;
  for (int i = 0; i < 200; ++i) prompt += "a bird ";
  const Words cache = {"--prompt-cache", path("cache")};
  Words with_a = {"--adapter", a}, with_s = {"--adapter", s};
  const auto plain = drawn(base_, {}, prompt), a_alone = drawn(base_, with_a, prompt),
             s_alone = drawn(base_, with_s, prompt);
  with_a.insert(with_a.end(), cache.begin(), cache.end());
  with_s.insert(with_s.end(), cache.begin(), cache.end());
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(drawn(base_, cache, prompt), plain);
    EXPECT_EQ(drawn(base_, with_a, prompt), a_alone);
    EXPECT_EQ(drawn(base_, with_s, prompt), s_alone);
  }
}

TEST_P(AdapterCommand, EveryCommandWithAModelTakesIt) {
  const auto a = lora(), s = state();
  write_file(path("t.txt"), "birds sing in the trees, the fox listens.\n");
  const auto loss = [&](const std::string& model, const Words& more) {
    Words words = {"eval",        "--model",           model, "--device", "cpu", "--text",
                   path("t.txt"), "--model-tokenizer", "byte"};
    words.insert(words.end(), more.begin(), more.end());
    const auto result = run_program(words);
    EXPECT_EQ(result.status, 0) << result.err;
    return json::parse(result.out);
  };
  const auto plain = loss(base_, {}), with_a = loss(base_, {"--adapter", a}),
             with_s = loss(base_, {"--adapter", s});
  EXPECT_NE(plain["loss"], with_a["loss"]);
  EXPECT_NE(plain["loss"], with_s["loss"]);
  EXPECT_NE(plain["signature"], with_a["signature"]);
  run({"convert", base_, path("m.safetensors"), "--merge", a});
  EXPECT_EQ(loss(path("m.safetensors"), {})["loss"], with_a["loss"]);
  run({"quantize", base_, path("q"), "--merge", a, "--tokenizer", "byte", "--type", "f32"});
  EXPECT_EQ(loss(path("q"), {})["loss"], with_a["loss"]);

  const auto vector = [&](const Words& more) {
    Words words = {"embed",  "--model", base_,      "--tokenizer", "byte",
                   "--text", "birds",   "--device", "cpu"};
    words.insert(words.end(), more.begin(), more.end());
    return run_program(words).out;
  };
  EXPECT_NE(vector({"--adapter", a}), vector({}));
  EXPECT_NE(vector({"--adapter", s}), vector({}));
}

TEST_P(AdapterCommand, OfAQuantizedModelStateAndShiftAreThoseOfItsBase) {
  const auto a = lora(), s = state(), f = shift();
  run({"quantize", base_, path("q"), "--tokenizer", "byte", "--type", "int8"});
  EXPECT_EQ(generate(path("q"), {"--adapter", s}).status, 0);
  EXPECT_EQ(generate(path("q"), {"--adapter", f}).status, 0);
  expect_refused(generate(path("q"), {"--adapter", a}), 3, "quantized from");
}

TEST_P(AdapterCommand, IsDescribed) {
  const auto result = run_program({"info", "--model", lora()});
  ASSERT_EQ(result.status, 0) << result.err;
  for (const auto* text : {"adapter                     lora", "rank                        4",
                           "alpha", "matrices", "blocks.*.att.key"})
    EXPECT_THAT(result.out, HasSubstr(text));
  const auto info = json::parse(run_program({"info", "--model", shift(), "--json"}).out);
  EXPECT_EQ(info["adapter"], "shift");
  EXPECT_EQ(info["shift"]["kernel"], 4);
  EXPECT_EQ(info["base"], hash_file(base_));
}

TEST_P(AdapterCommand, TravelsThroughTheLayoutOfRwkvPeft) {
  const auto a = lora();
  const auto to = run_program({"convert", a, path("a.pth")});
  ASSERT_EQ(to.status, 0) << to.err;
  EXPECT_THAT(to.out, HasSubstr("rwkv-peft"));
  EXPECT_THAT(to.out, HasSubstr("give 8 as --lora_alpha"));
  run({"convert", path("a.pth"), path("b.safetensors"), "--adapter-alpha", "8", "--base", base_});
  EXPECT_EQ(read_file(path("b.safetensors")), read_file(a));
  const auto with = drawn(base_, {"--adapter", a});
  EXPECT_EQ(drawn(base_, {"--adapter", path("a.pth"), "--adapter-alpha", "8"}), with);
  const auto assumed = generate(base_, {"--adapter", path("a.pth")});
  EXPECT_EQ(assumed.status, 0);
  EXPECT_THAT(assumed.err, HasSubstr("holds no alpha; 32 is taken"));
  EXPECT_EQ(drawn(base_, {"--adapter", path("a.pth") + ":0.25"}), with);
  fs::create_directory(path("folder"));
  fs::copy_file(a, path("folder/adapter.safetensors"));
  EXPECT_EQ(drawn(base_, {"--adapter", path("folder") + ":1"}), with);
  EXPECT_EQ(json::parse(run_program({"info", "--model", path("folder"), "--json"}).out)["rank"], 4);
}

TEST_P(AdapterCommand, SaysWhatIsWrong) {
  const auto a = lora();
  auto other = test::random_lora(config_, 4, 8);
  other.base_hash = "0123456789abcdef0123456789abcdef";
  write_adapter(path("other.safetensors"), other);
  expect_refused(generate(base_, {"--adapter", path("other.safetensors")}), 3,
                 "was trained on the weights 01234567...");
  EXPECT_EQ(generate(base_, {"--adapter", path("other.safetensors"), "--adapter-any-base"}).status,
            0);
  expect_refused(generate(base_, {"--adapter-any-base"}), 2, "needs --adapter");
  expect_refused(generate(base_, {"--adapter", a, "--adapter-alpha", "4"}), 2, "changes nothing");
  expect_refused(generate(base_, {"--adapter", a, "--save-state", a}), 2, "--adapter");
  expect_refused(generate(a), 3, "is an adapter, expected the whole model that it is for");
  expect_refused(generate(base_, {"--adapter", base_}), 3, "is not an adapter");
  expect_refused(generate(base_, {"--adapter", path("none")}), 3, "there is no such adapter");
  expect_refused(generate(base_, {"--adapter", path("")}), 3,
                 "a directory without adapter.safetensors");
  expect_refused(run_program({"convert", a, path("x.gguf")}), 2, "ends in .safetensors");
  expect_refused(run_program({"convert", a, path("x.pth"), "--to", "hf"}), 2,
                 "expected adapter or rwkv-peft");
  expect_refused(run_program({"convert", a, path("x.pth"), "--type", "bf16"}), 2,
                 "--type: has no effect here");
  expect_refused(run_program({"convert", base_, path("x.pth"), "--base", base_}), 2,
                 "--base: has no effect here");
  expect_refused(run_program({"convert", a, a, "--overwrite"}), 2, "IN");
  expect_refused(run_program({"convert", base_, a, "--merge", a, "--overwrite"}), 2, "--merge");
  write_file(path("cut.safetensors"), read_file(a).substr(0, 5000));
  expect_refused(generate(base_, {"--adapter", path("cut.safetensors")}), 3, "cut.safetensors");
  expect_refused(run_program({"eval", "--pairs", a, "--adapter", a}), 2, "needs --model");
}

INSTANTIATE_TEST_SUITE_P(Cores, AdapterCommand, ::testing::Values("rwkv4", "rwkv7"),
                         [](const auto& param_info) { return param_info.param; });

}  // namespace
}  // namespace rwkvx
