#include "rwkvx/model/module_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "rwkvx/cores/names.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/model/rwkv.h"
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
    engine = open_language_model(file, config, "cpu", "test");
    modules = open_module_model(file, config, c10::Device(c10::kCPU));
  }
  std::unique_ptr<LanguageModel> engine, modules;

 private:
  ScratchDirectory folder_;
};

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

}  // namespace
}  // namespace rwkvx
