#include "model/decoding_pass.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <vector>

#include "rwkvx/modules/device.h"
#include "support/pass_models.h"
#include "support/tensors.h"

namespace rwkvx {
namespace {

using Stack = DecodingPass::Stack;

std::vector<TokenId> tokens_of(std::size_t count, int step) {
  std::vector<TokenId> tokens;
  for (std::size_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<TokenId>((7 * static_cast<int>(i) + 5 * step) % 29));
  return tokens;
}

at::Tensor ids(const std::vector<TokenId>& tokens, c10::Device device) {
  return torch::tensor(std::vector<int64_t>(tokens.begin(), tokens.end()), torch::kInt64)
      .view({-1, 1})
      .to(device);
}

// Sequences that have come to different places.
Stack starts(Rwkv& model, int64_t count, c10::Device device) {
  const torch::NoGradGuard no_grad;
  ModelState all;
  for (int64_t i = 0; i < count; ++i) {
    auto one = model->start(1);
    torch::manual_seed(static_cast<std::uint64_t>(i));
    model->forward(torch::randint(29, {1, 1 + 3 * i}, torch::kInt64).to(device), one);
    if (i == 0) {
      all = one;
      continue;
    }
    all.t = torch::cat({all.t, one.t});
    for (std::size_t l = 0; l < all.layers.size(); ++l)
      for (std::size_t j = 0; j < all.layers[l].size(); ++j)
        all.layers[l][j] = torch::cat({all.layers[l][j], one.layers[l][j]});
  }
  return std::make_shared<const ModelState>(std::move(all));
}

void expect_near(const ModelState& found, const ModelState& wanted) {
  EXPECT_TRUE(torch::equal(found.t, wanted.t));
  for (std::size_t l = 0; l < wanted.layers.size(); ++l)
    for (std::size_t i = 0; i < wanted.layers[l].size(); ++i)
      test::expect_near_in_norm(found.layers[l][i].cpu(), wanted.layers[l][i].cpu(), 1e-5,
                                "state " + std::to_string(i), 1e-6);
}

void check(const std::string& core, const char* switches, c10::Device device) {
  SCOPED_TRACE(core + " " + switches);
  const torch::NoGradGuard no_grad;
  Rwkv model(config_of(switches, {1, 1, 64, 29}, core));
  disturb(*model);
  model->to(device);
  DecodingPass pass(model, {device, torch::kFloat, /*kernels=*/true});
  auto stack = starts(model, 3, device);
  auto wanted = *stack;
  Stack kept;
  std::vector<at::Tensor> kept_numbers;
  for (int step = 0; step < 44; ++step) {
    SCOPED_TRACE(step);
    if (step == 28) {  // the last sequence ends, and the others go on
      ModelState rest = wanted;
      rest.t = rest.t.narrow(0, 0, 2).clone();
      for (auto& layer : rest.layers)
        for (auto& tensor : layer) tensor = tensor.narrow(0, 0, 2).clone();
      wanted = rest;
      stack = std::make_shared<const ModelState>(rest);
      EXPECT_GE(pass.graphs_started(), 2);
    }
    if (step == 8) {  // somebody wants to come back to here
      kept = stack;
      for (const auto& layer : stack->layers)
        for (const auto& tensor : layer) kept_numbers.push_back(tensor.clone());
    }
    const auto tokens = tokens_of(static_cast<std::size_t>(stack->t.size(0)), step);
    const auto logits = model->forward(ids(tokens, device), wanted).squeeze(1);
    Stack after;
    test::expect_near_in_norm(pass.step(tokens, stack, after).cpu(), logits.cpu(), 1e-5);
    stack = after;
    expect_near(*stack, wanted);
  }
  auto number = kept_numbers.begin();
  for (const auto& layer : kept->layers)
    for (const auto& tensor : layer) EXPECT_TRUE(torch::equal(tensor, *number++));
  EXPECT_GE(pass.graphs_started(), 1);
}

// Prompts of one sequence, the longer ones in a pass of their own.
void check_prompts(const std::string& core, const char* switches, c10::Device device) {
  SCOPED_TRACE(core + " " + switches);
  const torch::NoGradGuard no_grad;
  Rwkv model(config_of(switches, {2, 1, 64, 29}, core));
  disturb(*model);
  model->to(device);
  DecodingPass pass(model, {device, torch::kFloat, /*kernels=*/true});
  auto state = model->start(1), wanted = model->start(1);
  for (std::size_t count : {3, 40, 1, 17}) {
    SCOPED_TRACE(count);
    const auto before = state;
    const auto first = before.layers.front().front().clone();
    const auto tokens = tokens_of(count, 3);
    const auto features = model->features(ids(tokens, device).t(), wanted).squeeze(0);
    test::expect_near_in_norm(pass.features(tokens, state).cpu(), features.cpu(), 1e-5);
    expect_near(state, wanted);
    EXPECT_TRUE(torch::equal(before.layers.front().front(), first));
  }
}

TEST(DecodingPass, GivesTheModulesFeaturesOfPrompts) {
  for (const char* core : {"rwkv4", "rwkv7"})
    for (const char* switches : {R"({"kind": "none"})", R"({})", R"({"pos": "sin"})",
                                 R"({"kernel": 1})", R"({"ablation": "gate_only"})"})
      check_prompts(core, switches, c10::kCPU);
}

TEST(DecodingPass, GivesTheModulesLogitsAndStates) {
  for (const char* core : {"rwkv4", "rwkv7"})
    for (const char* switches : {R"({"kind": "none"})", R"({})", R"({"sites": "a", "pos": "sin"})",
                                 R"({"kernel": 1})", R"({"ablation": "gate_only"})"})
      check(core, switches, c10::kCPU);
}

TEST(CudaDecodingPass, GivesTheModulesLogitsAndStatesOnTheGpu) {
  const auto device = find_device("auto", "test");
  if (device.is_cpu()) GTEST_SKIP() << "no GPU that this build has kernels for";
  for (const char* core : {"rwkv4", "rwkv7"}) {
    check(core, "{}", device);
    check_prompts(core, "{}", device);
  }
}

}  // namespace
}  // namespace rwkvx
