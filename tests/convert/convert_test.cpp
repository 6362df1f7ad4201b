// Models between the formats. The golden RWKV-4 is transformers'; other tools' own logits from our
// files are compared by tests/peers/peer_formats.py.
#include "rwkvx/convert/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/cores/parameters.h"
#include "rwkvx/formats/gguf.h"
#include "rwkvx/formats/safetensors.h"
#include "support/golden.h"
#include "support/random_weights.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

ModelConfig small(const std::string& core, bool enhanced = false) {
  ModelConfig config;
  config.core = core;
  config.n_layer = 2;
  config.n_embd = 64;
  config.head_size = core == "rwkv7" ? 64 : config.head_size;
  config.vocab_size = 257;
  if (!enhanced) config.shift.kind = ShiftKind::kNone;
  return config;
}

class Convert : public ::testing::Test {
 protected:
  fs::path path(const std::string& name) const { return folder_ / name; }
  fs::path weights(const ModelConfig& config) const {
    test::write_random_weights(config, path("source.safetensors"));
    return path("source.safetensors");
  }
  ConvertResult convert(const fs::path& from, const std::string& to, ModelFormat format,
                        ConvertOptions options = {}) const {
    options.format = format;
    options.tokenizer = tokenizer_.get();
    return convert_model(open_model(from), path(to), options);
  }
  std::string refused(const fs::path& from, const std::string& to, ModelFormat format,
                      const ConvertOptions& options = {}) const {
    try {
      convert(from, to, format, options);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  std::string bytes(const std::string& name) const { return read_file(path(name)); }

  std::unique_ptr<Tokenizer> tokenizer_ = make_byte_tokenizer();
  ScratchDirectory folder_;
};

TEST_F(Convert, RoundTripsGiveTheSameBytes) {
  for (const std::string core : {"rwkv4", "rwkv7"})
    for (const auto type : {StoredType::kBF16, StoredType::kF16}) {
      const auto source = weights(small(core));
      const ConvertOptions typed{.type = type, .overwrite = true};
      convert(source, "a.pth", ModelFormat::kPth, typed);
      std::vector<std::pair<std::string, ModelFormat>> forms = {
          {"b.safetensors", ModelFormat::kSafetensors},
          {"hf", ModelFormat::kHuggingFace},
          {"checkpoint", ModelFormat::kCheckpoint}};
      if (core == "rwkv7") forms.emplace_back("c.gguf", ModelFormat::kGguf);
      for (const auto& [name, format] : forms) {
        convert(path("a.pth"), name, format, {.overwrite = true});
        convert(path(name), "back.pth", ModelFormat::kPth, typed);
        EXPECT_EQ(bytes("back.pth"), bytes("a.pth")) << core << " " << name;
      }
    }
}

TEST_F(Convert, TheNamesOfTransformersAreThoseOfItsGoldenFile) {
  const auto golden = test::golden_dirs("model").front();
  convert(golden / "hf_rwkv4.pth", "hf", ModelFormat::kHuggingFace);
  const auto file = open_tensor_file(path("hf/model.safetensors"));
  for (const char* name :
       {"rwkv.embeddings.weight", "rwkv.blocks.0.pre_ln.weight",
        "rwkv.blocks.1.attention.time_mix_receptance", "rwkv.blocks.1.feed_forward.time_mix_key",
        "rwkv.ln_out.bias", "head.weight"})
    EXPECT_NE(file.find(name), nullptr) << name;
  const auto config = nlohmann::json::parse(bytes("hf/config.json"));
  EXPECT_EQ(config["model_type"], "rwkv");
  EXPECT_EQ(config["torch_dtype"], "float32");
}

TEST_F(Convert, NamesAndLayoutsOfRwkv7) {
  const auto config = small("rwkv7");
  const auto source = weights(config);
  const auto official = open_tensors(source);
  convert(source, "hf", ModelFormat::kHuggingFace);
  const auto hf = open_tensor_file(path("hf/model.safetensors"));
  const auto& w1 = official.at("blocks.1.att.w1");
  const auto& theirs = hf.at("model.layers.1.attn.w_lora.lora.0.weight");
  ASSERT_EQ(theirs.shape, (std::vector<std::int64_t>{w1.shape[1], w1.shape[0]}));
  const auto a = to_float32(w1), b = to_float32(theirs);
  const auto rows = static_cast<std::size_t>(w1.shape[0]),
             columns = static_cast<std::size_t>(w1.shape[1]);
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < columns; ++j) EXPECT_EQ(a[i * columns + j], b[j * rows + i]);
  EXPECT_EQ(hf.find("model.layers.0.attn.v_lora.lora.0.weight"), nullptr);
  EXPECT_EQ(hf.at("model.layers.0.attn.k_k").shape, (std::vector<std::int64_t>{64}));
  EXPECT_NE(hf.find("model.layers.0.pre_norm.weight"), nullptr);

  convert(source, "a.gguf", ModelFormat::kGguf);
  const auto gguf = open_tensor_file(path("a.gguf"));
  EXPECT_EQ(gguf.metadata().at("general.architecture"), "rwkv7");
  EXPECT_EQ(gguf.metadata().at("rwkv7.wkv.head_size"), "64");
  EXPECT_EQ(gguf.metadata().at("tokenizer.ggml.model"), "rwkv");
  EXPECT_EQ(gguf_strings(gguf.metadata().at(kGgufTokens))[65], "A");
  const auto& fused = gguf.at("blk.1.time_mix_lerp_fused.weight");
  EXPECT_EQ(fused.shape, (std::vector<std::int64_t>{6, 1, 1, 64}));
  const auto mixes = to_float32(fused), x_g = to_float32(official.at("blocks.1.att.x_g"));
  EXPECT_TRUE(std::equal(x_g.begin(), x_g.end(), mixes.begin() + 5 * 64));
  // llama.cpp wants tensors in the place of block 0's value residual.
  EXPECT_EQ(to_float32(gguf.at("blk.0.time_mix_v0.weight")),
            to_float32(official.at("blocks.0.att.a0")));
  EXPECT_EQ(open_tokenizer(open_model(path("a.gguf")), "")->kind(), "byte");
}

TEST_F(Convert, Q8_0IsNearTheWeights) {
  const auto source = weights(small("rwkv7"));
  convert(source, "q.gguf", ModelFormat::kGguf, {.type = StoredType::kQ8_0});
  const auto back = open_model(path("q.gguf"));
  const auto key = to_float32(open_tensors(source).at("blocks.1.ffn.key.weight")),
             quantized = to_float32(back.file.at("blocks.1.ffn.key.weight"));
  ASSERT_EQ(key.size(), quantized.size());
  for (std::size_t i = 0; i < key.size(); ++i) EXPECT_NEAR(key[i], quantized[i], 0.002);
  EXPECT_THAT(refused(source, "q.pth", ModelFormat::kPth, {.type = StoredType::kQ8_0}),
              HasSubstr("q8_0 is only for --to gguf"));
}

TEST_F(Convert, AnEnhancedModelLosesItsShiftOnlyWhenAsked) {
  const auto source = weights(small("rwkv7", /*enhanced=*/true));
  EXPECT_THAT(refused(source, "hf", ModelFormat::kHuggingFace),
              HasSubstr("leave it out with --drop-enhancement"));
  EXPECT_THAT(refused(source, "a.gguf", ModelFormat::kGguf), HasSubstr("gated positional shift"));
  EXPECT_FALSE(fs::exists(path("hf")));
  const auto kept = convert(source, "a.pth", ModelFormat::kPth);
  EXPECT_THAT(kept.notes, testing::Contains(HasSubstr("which only rwkvx reads")));
  EXPECT_TRUE(open_model(path("a.pth")).config.shift.enabled());
  const auto dropped = convert(source, "b.gguf", ModelFormat::kGguf, {.drop_enhancement = true});
  EXPECT_THAT(dropped.notes, testing::Contains(HasSubstr("left out the gated positional shift")));
  EXPECT_FALSE(open_model(path("b.gguf")).config.shift.enabled());
  EXPECT_THAT(refused(path("b.gguf"), "c.pth", ModelFormat::kPth, {.drop_enhancement = true}),
              HasSubstr("has no enhancement"));
}

TEST_F(Convert, WhatIsThereIsNotReplacedUnasked) {
  const auto source = weights(small("rwkv4"));
  write_file(path("a.pth"), "mine");
  EXPECT_THAT(refused(source, "a.pth", ModelFormat::kPth), HasSubstr("already exists"));
  fs::create_directory(path("hf"));
  write_file(path("hf/letter.txt"), "mine");
  EXPECT_THAT(refused(source, "hf", ModelFormat::kHuggingFace, {.overwrite = true}),
              HasSubstr("is not a model of the transformers library"));
  EXPECT_EQ(bytes("hf/letter.txt"), "mine");
  EXPECT_THAT(refused(source, "a.gguf", ModelFormat::kGguf),
              HasSubstr("is an RWKV-4 model, which GGUF files do not hold"));
}

TEST_F(Convert, ShardsAreReadAsOneModel) {
  const auto source = weights(small("rwkv7"));
  convert(source, "hf", ModelFormat::kHuggingFace);
  convert(source, "whole.pth", ModelFormat::kPth);
  const auto file = open_tensor_file(path("hf/model.safetensors"));
  nlohmann::json map;
  std::vector<TensorView> parts[2];
  for (std::size_t i = 0; i < file.tensors().size(); ++i) {
    parts[i % 2].push_back(file.tensors()[i]);
    map[file.tensors()[i].name] = i % 2 == 0 ? "one.safetensors" : "two.safetensors";
  }
  write_safetensors(path("hf/one.safetensors"), parts[0]);
  write_safetensors(path("hf/two.safetensors"), parts[1]);
  write_file(path("hf/model.safetensors.index.json"), nlohmann::json{{"weight_map", map}}.dump());
  fs::remove(path("hf/model.safetensors"));
  convert(path("hf"), "back.pth", ModelFormat::kPth);
  EXPECT_EQ(bytes("back.pth"), bytes("whole.pth"));
  map["head.weight"] = "../two.safetensors";
  write_file(path("hf/model.safetensors.index.json"), nlohmann::json{{"weight_map", map}}.dump());
  EXPECT_THAT(refused(path("hf"), "c.pth", ModelFormat::kPth),
              HasSubstr("names a file in another directory"));
}

TEST_F(Convert, ConfigsOfTransformersThatDoNotFitAreRefused) {
  const auto source = weights(small("rwkv7"));
  convert(source, "hf", ModelFormat::kHuggingFace);
  const auto good = nlohmann::json::parse(bytes("hf/config.json"));
  const auto says = [&](const char* key, const nlohmann::json& value) {
    auto config = good;
    config[key] = value;
    write_file(path("hf/config.json"), config.dump());
    return refused(path("hf"), "a.pth", ModelFormat::kPth);
  };
  EXPECT_THAT(says("norm_eps", 1e-6), HasSubstr("expected 1e-5"));
  EXPECT_THAT(says("hidden_size", 128), HasSubstr("hidden_size: is 128, but the weights have 64"));
  EXPECT_THAT(says("model_type", "mamba"), HasSubstr("\"rwkv\" (RWKV-4) and \"rwkv7\" are read"));
  EXPECT_THAT(says("attn", {{"layers", {1}}}), HasSubstr("attention layers"));
}

TEST_F(Convert, TheTokenizerIsFoundBesideTheWeights) {
  const auto source = weights(small("rwkv4"));
  EXPECT_THROW(open_tokenizer(open_model(source), ""), ConfigError);
  EXPECT_EQ(open_tokenizer(open_model(source), "byte")->kind(), "byte");
  fs::create_directory(path("tokenizer"));
  tokenizer_->save(path("tokenizer"));
  EXPECT_EQ(open_tokenizer(open_model(source), "")->kind(), "byte");
  EXPECT_EQ(open_model(folder_.path()).path, source);  // the one file of weights in it
  fs::copy_file(source, path("other.safetensors"));
  EXPECT_THAT(refused(folder_.path(), "a.pth", ModelFormat::kPth),
              HasSubstr("holds 2 files of weights; name one of them"));
}

}  // namespace
}  // namespace rwkvx
