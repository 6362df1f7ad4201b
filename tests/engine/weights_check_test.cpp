// Whether weights are a whole model: the rule of `info` is that of the engine.
#include "rwkvx/engine/weights_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "rwkvx/base/error.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/checkpoint/checkpoint_config.h"
#include "rwkvx/cores/parameters.h"
#include "rwkvx/engine/engine.h"
#include "rwkvx/engine/quantize.h"
#include "rwkvx/formats/safetensors.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;

class WeightsCheck : public ::testing::Test {
 protected:
  WeightsCheck() {
    config_.n_layer = 3;
    config_.n_embd = 64;
    config_.vocab_size = 20;
    for (const auto& row : describe_parameters(config_)) add(row.name, row.shape);
  }
  void add(const std::string& name, const std::vector<std::int64_t>& shape) {
    std::size_t count = 1;
    for (const auto size : shape) count *= static_cast<std::size_t>(size);
    auto& values = kept_[name];
    values.assign(count, 0.25f);
    tensors_[name] = {name, DType::kF32, shape, std::as_bytes(std::span(values))};
  }
  std::filesystem::path write() {
    std::vector<TensorView> views;
    for (const auto& [name, tensor] : tensors_) views.push_back(tensor);
    write_safetensors(folder_ / "a.safetensors", views);
    return folder_ / "a.safetensors";
  }
  template <class Work>
  static std::string failure(const Work& work) {
    try {
      work();
    } catch (const CheckpointError& error) {
      return error.what();
    }
    return "whole";
  }
  // What info and what the engine say, which must be the same.
  std::string verdict() {
    const auto path = write();
    const auto info = failure([&] { check_model(path); });
    const auto engine = failure([&] {
      const auto file = open_tensors(path);
      const Engine used(file, infer_config(file));
    });
    EXPECT_EQ(info, engine);
    return info;
  }
  ScratchDirectory folder_;
  ModelConfig config_;
  std::map<std::string, std::vector<float>> kept_;
  std::map<std::string, TensorView> tensors_;
};

TEST_F(WeightsCheck, AWholeModelIsWhole) {
  EXPECT_EQ(verdict(), "whole");
  // A shape may have other dimensions of one.
  tensors_["blocks.0.att.time_mix_k"].shape = {64};
  EXPECT_EQ(verdict(), "whole");
}

TEST_F(WeightsCheck, NamesWhatIsMissing) {
  const auto all = tensors_;
  for (const auto& [name, says] : std::vector<std::pair<std::string, std::string>>{
           {"head.weight", "head.weight: is missing, expected shape (20, 64); where a model ties"},
           {"blocks.0.ln0.weight", "blocks.0.ln0.weight: is missing, expected shape (64); an RWKV"},
           {"ln_out.bias", "ln_out.bias: is missing"},
           {"blocks.2.ffn.value.weight", "blocks.2.ffn.value.weight: is missing"}}) {
    tensors_ = all;
    tensors_.erase(name);
    EXPECT_THAT(verdict(), HasSubstr(says));
  }
}

TEST_F(WeightsCheck, ABlockMissingInTheMiddleIsNamed) {
  std::erase_if(tensors_, [](const auto& item) { return item.first.starts_with("blocks.1."); });
  EXPECT_THAT(verdict(), HasSubstr("blocks.1.ln1.weight: is missing"));
}

TEST_F(WeightsCheck, NamesWhatIsTooMuch) {
  const auto all = tensors_;
  add("blocks.0.att.key.lora_A", {8, 64});
  EXPECT_THAT(verdict(), HasSubstr("blocks.0.att.key.lora_A: is a LoRA matrix beside the weights"));
  tensors_ = all;
  add("optimizer.step", {1});
  EXPECT_THAT(verdict(), HasSubstr("optimizer.step: is not part of the model"));
  tensors_ = all;
  add("blocks.4000000000.att.key.weight", {64, 64});
  EXPECT_THAT(verdict(), HasSubstr("is of a block whose number is above"));
}

TEST_F(WeightsCheck, NamesOtherShapesAndTypes) {
  const auto all = tensors_;
  add("blocks.1.att.value.weight", {64, 32});
  EXPECT_THAT(verdict(), HasSubstr("blocks.1.att.value.weight: expected shape (64, 64), got"));
  tensors_ = all;
  add("blocks.1.att.time_decay", {63});
  EXPECT_THAT(verdict(), HasSubstr("blocks.1.att.time_decay: expected 64 numbers"));
  tensors_ = all;
  auto& key = tensors_["blocks.1.att.key.weight"];
  key.dtype = DType::kI8;  // as another program quantizes
  key.bytes = key.bytes.first(64 * 64);
  EXPECT_THAT(verdict(), HasSubstr("blocks.1.att.key.weight: holds integers (I8) that rwkvx"));
  tensors_ = all;
  auto& mix = tensors_["blocks.1.ffn.time_mix_k"];
  mix.dtype = DType::kI32;
  EXPECT_THAT(verdict(), HasSubstr("blocks.1.ffn.time_mix_k: expected numbers of dtype"));
}

TEST_F(WeightsCheck, ShowsTypesAndQuantization) {
  auto info = describe_checkpoint(write());
  EXPECT_EQ(info["quantization"], "none");
  EXPECT_EQ(info["dtype"], "F32");
  EXPECT_EQ(info["tensors"]["F32"], tensors_.size());
  const auto source = open_tensors(folder_ / "a.safetensors");
  write_quantized(source, config_, WeightType::kInt8, folder_ / "q.safetensors");
  check_model(folder_ / "q.safetensors");
  info = describe_checkpoint(folder_ / "q.safetensors");
  EXPECT_EQ(info["quantization"], "int8");
  EXPECT_EQ(info["dtype"], "BF16");
  EXPECT_EQ(info["tensors"]["I8"], 3 * 7 + 1);
}

TEST_F(WeightsCheck, ADirectoryOfTransformersIsNamed) {
  const auto put = [&](const std::string& name, const std::string& text) {
    write_file(folder_ / name, text);
  };
  const auto message = [&] { return failure([&] { check_model(folder_.path()); }); };
  put("config.json", R"({"model_type": "llama", "hidden_size": 4})");
  EXPECT_THAT(message(),
              HasSubstr("is a directory of the transformers library (model_type \"llama\")"));
  put("config.json", R"({"model_type": "rwkv"})");
  EXPECT_THAT(message(), HasSubstr("without weights; expected model.safetensors"));
  put("pytorch_model.bin", "x");
  EXPECT_THAT(message(), HasSubstr((folder_ / "pytorch_model.bin").string() + ": expected"));
  put("config.json", std::string(200000, '['));
  EXPECT_THAT(message(), HasSubstr("checksums.json"));
}

}  // namespace
}  // namespace rwkvx
