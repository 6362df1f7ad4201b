#include "train/computation.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "support/tensors.h"

namespace rwkvx {
namespace {

using test::expect_near_in_norm;

constexpr const char* kCores[] = {"rwkv4", "rwkv7"};
constexpr std::int64_t kVocab = 29;

ModelConfig config_of(const char* core) {
  nlohmann::json json{{"core", core}, {"n_layer", 2}, {"n_embd", 16}, {"vocab_size", kVocab}};
  if (std::string(core) == "rwkv7") json["head_size"] = 8;
  return config_from_json<ModelConfig>(json, "model");
}

Rwkv model_of(const char* core, c10::ScalarType type = torch::kFloat32) {
  const torch::NoGradGuard no_grad;
  at::set_num_threads(1);  // more would mostly wait for each other: the operators are tiny
  Rwkv model(config_of(core));
  torch::manual_seed(9);
  model->initialize(1, 1e-2);
  for (auto& parameter : model->parameters()) parameter += torch::randn(parameter.sizes()) * 0.1;
  model->to(type);
  for (auto& parameter : model->parameters())
    parameter.mutable_grad() = torch::zeros_like(parameter);
  return model;
}

TokenBatch batch_of(const std::vector<std::int64_t>& lengths, bool weighted = true) {
  TokenBatch batch;
  batch.position = 3;
  batch.lengths = lengths;
  std::uint64_t random = 7;
  for (const auto length : lengths)
    for (std::int64_t i = 0; i < length; ++i) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      batch.inputs.push_back(static_cast<std::int64_t>((random >> 33) % kVocab));
      batch.targets.push_back(static_cast<std::int64_t>((random >> 43) % kVocab));
      const float weight = weighted ? static_cast<float>((random >> 53) % 3) : 1.0f;
      if (weighted) batch.weights.push_back(weight);
      batch.weight += static_cast<double>(weight);
    }
  return batch;
}

// Sequence `which` of a batch alone.
TokenBatch only(const TokenBatch& batch, std::size_t which) {
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < which; ++i) begin += batch.lengths[i];
  const auto end = begin + batch.lengths[which];
  TokenBatch one;
  one.position = batch.position;
  one.lengths = {batch.lengths[which]};
  one.inputs.assign(batch.inputs.begin() + begin, batch.inputs.begin() + end);
  one.targets.assign(batch.targets.begin() + begin, batch.targets.begin() + end);
  one.weights.assign(batch.weights.begin() + begin, batch.weights.begin() + end);
  for (const float weight : one.weights) one.weight += static_cast<double>(weight);
  return one;
}

void expect_same_gradients(Rwkv& model, Rwkv& reference, double tolerance) {
  auto wanted = reference->named_parameters();
  for (const auto& item : model->named_parameters())
    expect_near_in_norm(item.value().grad(), wanted[item.key()].grad(), tolerance, item.key(),
                        /*smallest=*/tolerance * 1e-2);
}

TEST(CutIntoGroups, PutsPiecesInOrderIntoGroupsThatFit) {
  const auto groups = cut_into_groups({5, 12, 1, 7}, 4, 8, 0);
  std::vector<std::int64_t> next(4, 0);
  for (const auto& group : groups) {
    std::int64_t tokens = 0;
    std::vector<bool> seen(4, false);
    for (const auto& piece : group) {
      const auto at = static_cast<std::size_t>(piece.sequence);
      EXPECT_FALSE(seen[at]);
      seen[at] = true;
      EXPECT_EQ(piece.position, next[at]);
      next[at] += piece.tokens;
      tokens += piece.tokens;
      EXPECT_LE(piece.tokens, 4);
    }
    EXPECT_LE(tokens, 8);
  }
  EXPECT_EQ(next, (std::vector<std::int64_t>{5, 12, 1, 7}));
  EXPECT_EQ(cut_into_groups({9, 9}, 0, 18, 0).size(), 1u);
  EXPECT_EQ(cut_into_groups({2, 2, 2}, 0, 100, 2).size(), 2u);
}

TEST(Computation, PackedDocumentsTrainLikeEachAlone) {
  const auto batch = batch_of({5, 31, 1, 8});
  for (const char* core : kCores) {
    auto packed = model_of(core, torch::kFloat64), alone = model_of(core, torch::kFloat64),
         fused = model_of(core);
    TrainingConfig config;
    config.ctx_len = 32, config.batch_size = 2;
    const double loss = module_computation(packed, config, {})->gradients(batch, 1, batch.weight);
    double sum = 0;
    const auto one = module_computation(alone, config, {});
    for (std::size_t i = 0; i < batch.lengths.size(); ++i)
      sum += one->gradients(only(batch, i), 1, batch.weight);
    EXPECT_NEAR(loss, sum, 1e-12);
    expect_same_gradients(packed, alone, 1e-10);
    const auto pass = fused_computation(fused, config, {64, 32, 8}, {});
    EXPECT_NEAR(pass->gradients(batch, 1, batch.weight), sum, 1e-5);
    expect_same_gradients(fused, alone, 2e-5);
    EXPECT_NEAR(pass->loss(batch), sum, 1e-5);
  }
}

TEST(Computation, SegmentsWithTheFullGradientAreTheUncutSequence) {
  for (const bool weighted : {true, false})
    for (const char* core : kCores) {
      const auto batch = weighted ? batch_of({5, 31, 1, 20}) : batch_of({32, 32}, false);
      auto whole = model_of(core, torch::kFloat64), cut = model_of(core, torch::kFloat64),
           fused = model_of(core);
      TrainingConfig config;
      config.ctx_len = 32, config.batch_size = 2;
      const double wanted =
          module_computation(whole, config, {})->gradients(batch, 0.5, batch.weight);
      config.segment_tokens = 7, config.bptt = Bptt::kFull;
      EXPECT_NEAR(module_computation(cut, config, {})->gradients(batch, 0.5, batch.weight), wanted,
                  1e-12);
      expect_same_gradients(cut, whole, 1e-10);
      const auto pass = fused_computation(fused, config, {64, 32, weighted ? 8 : 0}, {});
      EXPECT_NEAR(pass->gradients(batch, 0.5, batch.weight), wanted, 1e-5);
      expect_same_gradients(fused, whole, 2e-5);
      EXPECT_NEAR(pass->loss(batch), wanted, 1e-5);
    }
}

TEST(Computation, TruncatedSegmentsAreThoseOfTheModules) {
  const auto batch = batch_of({5, 31, 1, 20});
  for (const char* core : kCores) {
    auto modules = model_of(core, torch::kFloat64), fused = model_of(core);
    TrainingConfig config;
    config.ctx_len = 32, config.batch_size = 2, config.segment_tokens = 7;
    module_computation(modules, config, {})->gradients(batch, 1, batch.weight);
    fused_computation(fused, config, {64, 32, 8}, {})->gradients(batch, 1, batch.weight);
    expect_same_gradients(fused, modules, 2e-5);
  }
}

// LoRA and a learned state by the fused pass and by the modules, in segments too.
TEST(Computation, AdditionsHaveTheModulesGradients) {
  const auto batch = batch_of({5, 31, 1, 20});
  for (const char* core : kCores)
    for (const std::int64_t segment : {0, 7}) {
      auto modules = model_of(core), fused = model_of(core);
      TrainingConfig config;
      config.ctx_len = 32, config.batch_size = 2;
      config.segment_tokens = segment, config.bptt = Bptt::kFull;
      const auto additions = [&](Rwkv& model) {
        torch::manual_seed(4);
        Additions all;
        for (const std::string name : {"blocks.0.att.key.weight", "blocks.1.ffn.value.weight"}) {
          const auto matrix = model->named_parameters()[name];
          PassAdapter one{torch::randn({2, matrix.size(1)}) * 0.2,
                          torch::randn({matrix.size(0), 2}) * 0.2, 0.5f};
          one.a.mutable_grad() = torch::zeros_like(one.a);
          one.b.mutable_grad() = torch::zeros_like(one.b);
          all.adapters.emplace_back(name, one);
        }
        all.state = std::make_shared<LearnedState>(learned_state(model));
        for (auto& layer : all.state->layers) {
          const torch::NoGradGuard no_grad;
          auto change = torch::randn(layer.sizes()) * 0.1;
          if (all.state->mask.defined()) change = change * all.state->mask;
          layer.add_(change);
          layer.set_requires_grad(true);
          layer.mutable_grad() = torch::zeros_like(layer);
        }
        return all;
      };
      const auto of_modules = additions(modules), of_fused = additions(fused);
      for (auto* model : {&modules, &fused})
        for (auto& parameter : (*model)->parameters()) {
          parameter.set_requires_grad(false);
          parameter.mutable_grad() = at::Tensor();
        }
      const double wanted =
          module_computation(modules, config, of_modules)->gradients(batch, 1, batch.weight);
      const double loss = fused_computation(fused, config, {64, 32, 8}, of_fused)
                              ->gradients(batch, 1, batch.weight);
      EXPECT_NEAR(loss, wanted, 1e-5);
      for (std::size_t i = 0; i < of_fused.adapters.size(); ++i) {
        const auto &a = of_fused.adapters[i].second, &b = of_modules.adapters[i].second;
        expect_near_in_norm(a.a.grad(), b.a.grad(), 1e-4, "a");
        expect_near_in_norm(a.b.grad(), b.b.grad(), 1e-4, "b");
      }
      for (std::size_t l = 0; l < of_fused.state->layers.size(); ++l)
        expect_near_in_norm(of_fused.state->layers[l].grad(), of_modules.state->layers[l].grad(),
                            1e-4, std::string(core) + " state");
    }
}

TEST(Computation, DropoutIsTheSameForTheSameBatch) {
  const auto batch = batch_of({5, 31, 1, 20});
  auto first = model_of("rwkv4"), second = model_of("rwkv4"), plain = model_of("rwkv4");
  TrainingConfig config;
  config.ctx_len = 32, config.batch_size = 2;
  const double without =
      fused_computation(plain, config, {64, 32, 8}, {})->gradients(batch, 1, batch.weight);
  config.dropout = 0.3;
  const auto one = fused_computation(first, config, {64, 32, 8}, {}),
             two = fused_computation(second, config, {64, 32, 8}, {});
  const double loss = one->gradients(batch, 1, batch.weight);
  EXPECT_EQ(two->gradients(batch, 1, batch.weight), loss);
  EXPECT_NE(loss, without);
  EXPECT_NEAR(one->loss(batch), without, 1e-6);
  auto wanted = second->named_parameters();
  for (const auto& item : first->named_parameters())
    EXPECT_TRUE(torch::equal(item.value().grad(), wanted[item.key()].grad())) << item.key();
}

}  // namespace
}  // namespace rwkvx
