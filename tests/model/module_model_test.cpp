#include "rwkvx/model/module_model.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "rwkvx/cores/names.h"
#include "rwkvx/engine/quantize.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/ops/cuda/call.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

// One model with random weights, opened in both ways.
class LanguageModelTest : public ::testing::Test {
 protected:
  LanguageModelTest() {
    ModelConfig config;
    config.n_layer = 2, config.n_embd = 16, config.vocab_size = 50;
    Rwkv model(config);
    model->initialize(1, 0.5);
    write_safetensors(folder_ / "model.safetensors", weight_views(*model).views);
    const auto file = open_tensors(folder_ / "model.safetensors");
    config_ = config;
    engine = open_language_model(file, config, "cpu", "test");
    modules = open_module_model(file, config, c10::Device(c10::kCPU));
  }
  std::unique_ptr<LanguageModel> engine, modules;
  ModelConfig config_;
  ScratchDirectory folder_;
};

// The modules compute with what the integers stand for, the engine with rounded activations, too.
TEST_F(LanguageModelTest, QuantizedWeightsAreReadByBothKinds) {
  const auto source = open_tensors(folder_ / "model.safetensors");
  for (const auto type : {WeightType::kBF16, WeightType::kInt8, WeightType::kInt4}) {
    const auto path = folder_ / (std::string(weight_type_name(type)) + ".safetensors");
    write_quantized(source, config_, type, path);
    const auto file = open_tensors(path);
    std::unique_ptr<LanguageModel> kinds[] = {
        open_language_model(file, config_, "cpu", "test"),
        open_module_model(file, config_, c10::Device(c10::kCPU))};
    std::vector<float> found[2];
    for (std::size_t i = 0; const auto& one : kinds) {
      const auto state = one->start();
      found[i].resize(50);
      one->prefill(std::vector<TokenId>{3, 1, 4, 1, 5, 9, 2}, *state, found[i++].data());
    }
    float largest = 0;
    for (const float x : found[0]) largest = std::max(largest, std::abs(x));
    for (std::size_t i = 0; i < 50; ++i)
      EXPECT_NEAR(found[0][i], found[1][i], (type == WeightType::kInt4 ? 0.05 : 1e-3) * largest)
          << weight_type_name(type);
  }
}

// As a GPU has it, with the kernels' bodies: matrices in bfloat16, int8 ones as they are. RWKV-7's
// low-rank matrices, which lie the other way round, become bfloat16.
TEST(DeviceModel, ComputesWithWhatAFileHolds) {
  for (const char* core : {"rwkv4", "rwkv7"}) {
    const ScratchDirectory folder;
    ModelConfig config;
    config.core = core;
    config.n_layer = 2, config.n_embd = 64, config.vocab_size = 50, config.head_size = 16;
    Rwkv model(config);
    model->initialize(1, 0.5);
    for (auto& parameter : model->parameters()) {  // matrices that start at zero
      const torch::NoGradGuard no_grad;
      parameter += torch::randn(parameter.sizes()) * 0.05;
    }
    write_safetensors(folder / "model.safetensors", weight_views(*model).views);
    const auto source = open_tensors(folder / "model.safetensors");
    std::vector<TokenId> tokens;
    for (int i = 0; i < 40; ++i) tokens.push_back(i * i % 50);
    for (const auto type :
         {WeightType::kF32, WeightType::kBF16, WeightType::kInt8, WeightType::kInt4}) {
      SCOPED_TRACE(std::string(core) + " " + std::string(weight_type_name(type)));
      const auto path = folder / "other.safetensors";
      write_quantized(source, config, type, path);
      const auto file = open_tensors(path);
      const auto engine = open_language_model(file, config, "cpu", "test");
      const cuda::Emulation emulation;
      const auto device = open_module_model(file, config, c10::Device(c10::kCPU));
      EXPECT_EQ(device->precision(), type == WeightType::kF32    ? "f32"
                                     : type == WeightType::kInt8 ? "int8"
                                                                 : "bf16");
      std::vector<float> wanted(50), found(50);
      const auto near = [&](const char* what) {
        double away = 0, size = 0;
        for (std::size_t i = 0; i < 50; ++i) {
          away += std::pow(found[i] - wanted[i], 2);
          size += std::pow(wanted[i], 2);
        }
        const double allowed = type == WeightType::kF32    ? 1e-4
                               : type == WeightType::kInt4 ? 0.05
                                                           : 0.02;
        EXPECT_LT(std::sqrt(away / size), allowed) << what;
      };
      const auto here = engine->start(), there = device->start();
      engine->prefill(tokens, *here, wanted.data());
      device->prefill(tokens, *there, found.data());
      near("the prompt");
      for (const TokenId token : {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8}) {
        SequenceState *const own[] = {here.get()}, *const other[] = {there.get()};
        engine->step({&token, 1}, own, wanted.data());
        device->step({&token, 1}, other, found.data());
        near("a token");
      }
      const auto state = device->export_state(*there);
      const auto back = device->import_state(state);
      EXPECT_EQ(device->export_state(*back).values, state.values);
    }
  }
}

// What a GPU's modules leave, the CPU's engine goes on from, and the other way round.
TEST_F(LanguageModelTest, AStateResumesOnTheOtherKindOfDevice) {
  const std::vector<TokenId> head{3, 1, 4, 1, 5, 9, 2}, tail{6, 5, 3, 5};
  for (auto* first : {engine.get(), modules.get()}) {
    auto* second = first == engine.get() ? modules.get() : engine.get();
    auto state = first->start();
    std::vector<float> logits(50), wanted(50), found(50);
    first->prefill(head, *state, logits.data());
    const auto plain = first->export_state(*state);
    EXPECT_EQ(plain.t, 7);
    auto moved = second->import_state(plain);
    first->prefill(tail, *state, wanted.data());
    second->prefill(tail, *moved, found.data());
    for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(found[i], wanted[i], 1e-4);
    const auto back = first->import_state(plain);
    EXPECT_EQ(first->export_state(*back).values, plain.values);
  }
}

TEST_F(LanguageModelTest, BothKindsGiveTheSameFeatures) {
  std::vector<TokenId> tokens;  // more than one chunk
  for (int i = 0; i < 300; ++i) tokens.push_back(i * i % 50);
  std::vector<float> found[2];
  for (auto* one : {engine.get(), modules.get()}) {
    EXPECT_EQ(one->n_embd(), 16);
    auto& rows = found[one == modules.get() ? 1 : 0];
    const auto state = one->start();
    one->prefill_features(tokens, *state, [&](std::int64_t first, std::span<const float> some) {
      EXPECT_EQ(first * 16, static_cast<std::int64_t>(rows.size()));
      rows.insert(rows.end(), some.begin(), some.end());
    });
    EXPECT_EQ(one->export_state(*state).t, 300);
  }
  ASSERT_EQ(found[0].size(), 300u * 16);
  ASSERT_EQ(found[1].size(), 300u * 16);
  for (std::size_t i = 0; i < found[0].size(); ++i)
    ASSERT_NEAR(found[0][i], found[1][i], 1e-3) << i;
}

TEST_F(LanguageModelTest, BothKindsGiveTheSameLosses) {
  std::vector<TokenId> tokens;  // more than one chunk
  for (int i = 0; i < 600; ++i) tokens.push_back(i * i % 50);
  const std::span<const TokenId> all = tokens;
  std::vector<double> found[2] = {std::vector<double>(599), std::vector<double>(599)};
  for (auto* one : {engine.get(), modules.get()}) {
    const auto state = one->start();
    one->prefill_losses(all.first(599), all.subspan(1), *state,
                        found[one == modules.get() ? 1 : 0]);
    EXPECT_EQ(one->export_state(*state).t, 599);
  }
  for (std::size_t i = 0; i < 599; ++i) ASSERT_NEAR(found[0][i], found[1][i], 1e-3) << i;
}

// Sequences that come and go, at different places, decoded together and each alone.
TEST_F(LanguageModelTest, SequencesDecodedTogetherAreThoseDecodedAlone) {
  const std::vector<std::vector<TokenId>> prompts{{3, 1, 4}, {1, 5}, {9, 2, 6, 5, 3}, {8}};
  std::vector<std::unique_ptr<SequenceState>> together, alone;
  for (const auto& prompt : prompts) {
    together.push_back(modules->start());
    modules->prefill(prompt, *together.back(), nullptr);
    alone.push_back(together.back()->copy());
  }
  const std::vector<std::vector<std::size_t>> groups{{0, 1, 2, 3}, {0, 1, 2, 3}, {3, 1},
                                                     {3, 1},       {2, 3, 0},    {1}};
  TokenId next = 7;
  for (const auto& group : groups) {
    std::vector<TokenId> tokens;
    std::vector<SequenceState*> states;
    for (const auto i : group) {
      tokens.push_back(next = (next * 11 + 3) % 50);
      states.push_back(together[i].get());
    }
    std::vector<float> found(group.size() * 50), wanted(50);
    modules->step(tokens, states, found.data());
    for (std::size_t row = 0; row < group.size(); ++row) {
      modules->prefill({&tokens[row], 1}, *alone[group[row]], wanted.data());
      for (std::size_t i = 0; i < 50; ++i)
        ASSERT_NEAR(found[row * 50 + i], wanted[i], 1e-5) << row << " " << i;
      EXPECT_EQ(modules->export_state(*together[group[row]]).t,
                modules->export_state(*alone[group[row]]).t);
    }
  }
}

}  // namespace
}  // namespace rwkvx
