// What is trained in place of all of a model, on pairs and in segments: by itself and resumed.
#include "train/tuning.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cstring>

#include "rwkvx/adapters/apply.h"
#include "rwkvx/formats/safetensors.h"
#include "support/tiny_training.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using test::quiet;
using ::testing::HasSubstr;

std::string pairs() {
  std::string text;
  for (int i = 0; i < 60; ++i)
    text += R"({"prompt": "number )" + std::to_string(i % 7) + R"(", "response": ")" +
            std::string(static_cast<std::size_t>(3 + i % 5), static_cast<char>('a' + i % 7)) +
            "\"}\n";
  return text;
}

TrainConfig on_pairs(const ScratchDirectory& folder, const std::string& output,
                     const std::string& core = "rwkv4") {
  auto config = test::tiny(folder, output);
  config.model.core = core;
  if (core == "rwkv7") config.model.head_size = 8;
  config.data.format = DataFormat::kPairs;
  config.data.train = {test::text_file(folder, "pairs.jsonl", pairs())};
  config.train.ctx_len = 24;
  config.train.dropout = 0.1;
  config.train.segment_tokens = 7;
  config.train.bptt = Bptt::kFull;
  config.train.max_steps = 12;
  return config;
}

// A model to begin with; sizes are left to train.init_from.
std::string base_model(const ScratchDirectory& folder, const std::string& core) {
  auto config = test::tiny(folder, "base-" + core);
  config.model.core = core;
  config.model.shift.kind = ShiftKind::kNone;
  if (core == "rwkv7") config.model.head_size = 8;
  config.train.max_steps = 12;
  train(config, quiet());
  return config.train.output;
}

// In a directory of its own.
void expect_resumes(TrainConfig config, const ScratchDirectory& folder, const std::string& name) {
  SCOPED_TRACE(name);
  config.train.output = (folder / name).string();
  test::expect_resume_gives_the_same_bytes(config, 12, 5);
}

TEST(Tuning, PairsInSegmentsWithDropoutResumeToTheSameBytes) {
  const ScratchDirectory folder;
  for (const std::string core : {"rwkv4", "rwkv7"})
    expect_resumes(on_pairs(folder, "", core), folder, core);
}

TEST(Tuning, AdaptersResumeToTheSameBytesAndApplyToTheirBase) {
  const ScratchDirectory folder;
  for (const std::string core : {"rwkv4", "rwkv7"})
    for (const auto kind : {TrainAdapter::kLora, TrainAdapter::kState, TrainAdapter::kShift}) {
      auto config = on_pairs(folder, "", core);
      config.model = ModelConfig();
      config.train.init_from = base_model(folder, core);
      config.train.adapter = kind;
      config.train.lora_rank = 3;
      if (kind != TrainAdapter::kShift) config.model.shift.kind = ShiftKind::kNone;
      const auto name = core + enum_name(kind);
      expect_resumes(config, folder, name);
      const auto checkpoint = folder / name / "checkpoints" / "step-00000012";
      const auto adapter = read_adapter(checkpoint);
      EXPECT_EQ(adapter.base_hash, open_model(config.train.init_from).hash());
      double size = 0;
      for (const auto& tensor : adapter.tensors)
        for (const float value : tensor.values) size += std::abs(static_cast<double>(value));
      EXPECT_GT(size, 0) << name;
      // The base with the adapter is the checkpoint.
      AdapterChoice choice;
      choice.files = {(folder / name).string()};
      const auto adapted = with_adapters(open_model(config.train.init_from), choice);
      const auto own = open_model(checkpoint);
      EXPECT_EQ(adapted.initial_state.has_value(), kind == TrainAdapter::kState);
      for (const auto& view : own.file.tensors())
        EXPECT_TRUE(std::ranges::equal(view.bytes, adapted.source.file.at(view.name).bytes))
            << view.name;
      fs::remove_all(folder / ("base-" + core));
      fs::remove_all(folder / name);
    }
}

TEST(Tuning, FrozenParametersKeepTheirBytes) {
  const ScratchDirectory folder;
  auto config = on_pairs(folder, "frozen");
  config.model = ModelConfig();
  config.train.init_from = base_model(folder, "rwkv4");
  config.train.freeze = {"core"};
  train(config, quiet());
  const auto tuned = open_model(config.train.output), base = open_model(config.train.init_from);
  for (const auto& view : base.file.tensors())
    EXPECT_TRUE(std::ranges::equal(view.bytes, tuned.file.at(view.name).bytes)) << view.name;
  Rwkv fresh(tuned.config);
  fresh->initialize(static_cast<std::uint64_t>(config.train.seed), config.train.learning_rate);
  for (const auto& row : describe_parameters(fresh->config())) {
    if (!row.of_shift()) continue;
    const auto& bytes = tuned.file.at(row.name).bytes;
    const void* first = fresh->named_parameters()[row.name].data_ptr();
    EXPECT_NE(std::memcmp(bytes.data(), first, bytes.size()), 0) << row.name;
  }
}

TEST(Tuning, RefusesWhatTrainsNothing) {
  const ScratchDirectory folder;
  const auto refusal = [&](const std::function<void(TrainConfig&)>& change) -> std::string {
    auto config = on_pairs(folder, "refused");
    change(config);
    try {
      config.train.check("train");
      train(config, quiet());
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(refusal([](auto& c) { c.train.freeze = {"nothing"}; }),
              HasSubstr("\"nothing\" means no parameter of this model"));
  EXPECT_THAT(refusal([](auto& c) { c.train.freeze = {"*"}; }), HasSubstr("nothing to train"));
  EXPECT_THAT(refusal([](auto& c) { c.train.adapter = TrainAdapter::kLora; }),
              HasSubstr("set init_from"));
  const auto base = base_model(folder, "rwkv4");
  const auto adapt = [&](auto& c) {
    c.model = ModelConfig();
    c.model.shift.kind = ShiftKind::kNone;
    c.train.init_from = base;
    c.train.adapter = TrainAdapter::kLora;
  };
  EXPECT_THAT(refusal([&](auto& c) {
                adapt(c);
                c.train.lora_matrices = {"ln1"};
              }),
              HasSubstr("\"ln1\" means no matrix of this model"));
  EXPECT_THAT(refusal([&](auto& c) {
                adapt(c);
                c.train.adapter = TrainAdapter::kShift;
              }),
              HasSubstr("needs a model with the gated positional shift"));
}

TEST(Tuning, ValidationCanBeByResponsesAndEndEarly) {
  const ScratchDirectory folder;
  auto config = on_pairs(folder, "responses");
  config.train.eval_generate = 3;
  config.train.best_by = BestBy::kRougeL;
  config.train.eval_every = 2;
  config.train.max_steps = 200;
  config.train.patience = 2;
  const auto result = train(config, quiet());
  EXPECT_TRUE(result.finished);
  EXPECT_LT(result.step, 200);
  bool seen = false;
  for (const auto& line : test::log_lines(config)) seen |= line.contains("rouge_l");
  EXPECT_TRUE(seen);
}

TEST(Tuning, AnotherValidationTextBeginsANewBestByResponses) {
  const ScratchDirectory folder;
  auto config = on_pairs(folder, "responses");
  config.train.eval_generate = 3;
  config.train.best_by = BestBy::kRougeL;
  config.train.eval_every = 3;
  auto options = quiet();
  options.stop_after = 6;
  train(config, options);
  config.train.eval_tokens = 100;
  train(config, test::resuming());
  for (const auto& line : test::log_lines(config)) {
    if (line.contains("rouge_l") && line["step"] == 9) {
      EXPECT_TRUE(line["best"]);
    }
  }
}

}  // namespace
}  // namespace rwkvx
