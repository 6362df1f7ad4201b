#include "rwkvx/model/rwkv.h"

#include <torch/types.h>

#include "rwkvx/cores/parameters.h"
#include "support/tensors.h"

namespace rwkvx {
namespace {

using test::expect_close;

ModelConfig small(const std::string& switches = "{}", const std::string& core = "rwkv4") {
  auto json = nlohmann::json{{"core", core}, {"n_layer", 2}, {"n_embd", 16}, {"vocab_size", 23}};
  if (core == "rwkv7")
    json.update({{"head_size", 8},
                 {"decay_rank", 3},
                 {"iclr_rank", 4},
                 {"value_rank", 2},
                 {"gate_rank", 5}});
  json["shift"] = nlohmann::json::parse(switches);
  return config_from_json<ModelConfig>(json, "model");
}

// Every parameter random, as after training.
void disturb(RwkvImpl& model) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(9);
  model.initialize(1, 1e-3);
  for (auto& parameter : model.parameters())
    parameter += torch::randn(parameter.sizes()).to(parameter.dtype()) * 0.15;
}

const std::vector<std::string> kAllSwitches = {
    R"({"kind": "none"})",
    R"({})",
    R"({"sites": "a"})",
    R"({"sites": "f", "kernel": 7})",
    R"({"kernel": 1})",
    R"({"pos": "sin"})",
    R"({"pos": "none"})",
    R"({"ablation": "conv_only"})",
    R"({"ablation": "gate_only"})",
    R"({"gate": "one"})",
    R"({"gate": "scalar"})",
    R"({"gate": "group", "gate_groups": 4})",
    R"({"gate": "lowrank", "gate_rank": 3})",
    R"({"ablation": "gate_only", "gate": "lowrank", "pos": "none"})",
};

// Calls test(core, switches) for all of both.
template <class Test>
void for_each_variant(const Test& test) {
  for (const std::string core : {"rwkv4", "rwkv7"})
    for (const auto& switches : kAllSwitches) {
      SCOPED_TRACE(core + " " + switches);
      test(core, switches);
    }
}

TEST(Rwkv, GivesTheSameLogitsHoweverTheSequenceIsCut) {
  const torch::NoGradGuard no_grad;
  for_each_variant([](const std::string& core, const std::string& switches) {
    Rwkv model(small(switches, core));
    disturb(*model);
    const int64_t T = 33;
    const auto tokens = torch::randint(23, {3, T}, torch::kInt64);
    auto state = model->start(3);
    const auto whole = model->forward(tokens, state);
    for (const int64_t chunk : {1, 2, 3, 5, 32}) {
      auto walking = model->start(3);
      std::vector<at::Tensor> parts;
      for (int64_t t = 0; t < T; t += chunk)
        parts.push_back(model->forward(tokens.slice(1, t, t + chunk), walking));
      expect_close(torch::cat(parts, 1), whole, 1e-5, 1e-5, "chunks of " + std::to_string(chunk));
      EXPECT_TRUE(torch::equal(walking.t, state.t));
    }
  });
}

TEST(Rwkv, IsTheBaselineBitForBitAtTheStart) {
  const torch::NoGradGuard no_grad;
  for_each_variant([](const std::string& core, const std::string& switches) {
    if (switches.find("gate_only") != std::string::npos) return;  // starts near, not at
    Rwkv baseline(small(R"({"kind": "none"})", core));
    baseline->initialize(3, 1e-3);
    const auto tokens = torch::randint(23, {2, 20}, torch::kInt64);
    Rwkv model(small(switches, core));
    model->initialize(3, 1e-3);
    // The mixers' outputs start at zero; give both models the same working ones.
    auto shared = baseline->named_parameters();
    for (const auto& item : model->named_parameters()) {
      if (!shared.contains(item.key())) continue;
      EXPECT_TRUE(torch::equal(item.value(), shared[item.key()])) << item.key();
      torch::manual_seed(static_cast<int64_t>(item.value().numel()));
      const auto noise = torch::randn(item.value().sizes()) * 0.1;
      if (item.key().find("weight") != std::string::npos) item.value().add_(noise);
    }
    Rwkv twin(small(R"({"kind": "none"})", core));
    twin->initialize(3, 1e-3);
    auto mine = model->named_parameters();
    for (auto& item : twin->named_parameters()) item.value().copy_(mine[item.key()]);
    auto a = model->start(2), b = twin->start(2);
    EXPECT_TRUE(torch::equal(model->forward(tokens, a), twin->forward(tokens, b)));
  });
}

TEST(Rwkv, StartsWithALossNearTheLogarithmOfTheVocabulary) {
  const torch::NoGradGuard no_grad;
  for (const char* core : {"rwkv4", "rwkv7"}) {
    Rwkv model(small("{}", core));
    model->initialize(1, 1e-3);
    auto state = model->start(4);
    const auto logits = model->forward(torch::randint(23, {4, 30}, torch::kInt64), state);
    const auto loss = -torch::log_softmax(logits, 2).mean();
    EXPECT_NEAR(loss.item<double>(), std::log(23.0), 0.15) << core;
  }
}

TEST(Rwkv, IsCausal) {
  const torch::NoGradGuard no_grad;
  Rwkv model(small());
  disturb(*model);
  const auto tokens = torch::randint(23, {1, 24}, torch::kInt64);
  auto changed = tokens.clone();
  changed[0][15] = (changed[0][15].item<int64_t>() + 1) % 23;
  auto a = model->start(1), b = model->start(1);
  const auto before = model->forward(tokens, a), after = model->forward(changed, b);
  EXPECT_TRUE(torch::equal(before.slice(1, 0, 15), after.slice(1, 0, 15)));
  EXPECT_FALSE(torch::equal(before.slice(1, 15), after.slice(1, 15)));
}

TEST(Rwkv, SequencesOfABatchDoNotMeet) {
  const torch::NoGradGuard no_grad;
  Rwkv model(small());
  disturb(*model);
  const auto tokens = torch::randint(23, {3, 17}, torch::kInt64);
  auto all = model->start(3);
  const auto together = model->forward(tokens, all);
  for (int64_t b = 0; b < 3; ++b) {
    auto state = model->start(1);
    expect_close(model->forward(tokens.slice(0, b, b + 1), state), together.slice(0, b, b + 1),
                 1e-5, 1e-5);
  }
}

TEST(Rwkv, TakesSequencesAtDifferentPositionsInOneBatch) {
  const torch::NoGradGuard no_grad;
  Rwkv model(small());
  disturb(*model);
  const auto tokens = torch::randint(23, {1, 12}, torch::kInt64);
  auto far = model->start(1), near = model->start(1), both = model->start(2);
  far.t += 40;
  both.t = torch::tensor({40, 0}, torch::kInt64);
  const auto a = model->forward(tokens, far), b = model->forward(tokens, near);
  const auto joined = model->forward(tokens.repeat({2, 1}), both);
  expect_close(joined.slice(0, 0, 1), a, 1e-5, 1e-5);
  expect_close(joined.slice(0, 1, 2), b, 1e-5, 1e-5);
}

TEST(Rwkv, StaysFiniteFarBeyondAnyTrainingLength) {
  const torch::NoGradGuard no_grad;
  for (const char* pos : {"exp", "sin"}) {
    Rwkv model(small(std::string(R"({"pos": ")") + pos + "\"}"));
    disturb(*model);
    auto state = model->start(1);
    state.t += 1'000'000'000'000;
    const auto logits = model->forward(torch::randint(23, {1, 9}, torch::kInt64), state);
    EXPECT_TRUE(torch::isfinite(logits).all().item<bool>());
  }
}

TEST(Rwkv, HasTheGradientsOfFiniteDifferences) {
  for_each_variant([](const std::string& core, const std::string& switches) {
    auto config = small(switches, core);
    config.n_embd = core == "rwkv7" ? 8 : 4;
    if (config.shift.gate == Gate::kGroup) config.shift.gate_groups = 2;
    Rwkv model(config);
    disturb(*model);
    model->to(torch::kFloat64);
    const auto tokens = torch::randint(23, {2, 6}, torch::kInt64);
    torch::manual_seed(1);
    const auto weight = torch::randn({2, 6, 23}, torch::kFloat64);
    const auto loss = [&] {
      auto state = model->start(2);
      return (model->forward(tokens, state) * weight).sum();
    };
    loss().backward();
    const torch::NoGradGuard no_grad;
    constexpr double kStep = 1e-6;
    for (const auto& item : model->named_parameters()) {
      const auto flat = item.value().view({-1});
      const int64_t e = flat.size(0) / 2;
      const double value = flat[e].item<double>();
      flat[e] = value + kStep;
      const double up = loss().item<double>();
      flat[e] = value - kStep;
      const double down = loss().item<double>();
      flat[e] = value;
      const double numeric = (up - down) / (2 * kStep);
      const double analytic = item.value().grad().view({-1})[e].item<double>();
      EXPECT_NEAR(analytic, numeric, 1e-5 + 1e-4 * std::abs(numeric)) << item.key();
    }
  });
}

TEST(Rwkv, ParametersAreThoseOfTheTable) {
  for_each_variant([](const std::string& core, const std::string& switches) {
    const auto config = small(switches, core);
    Rwkv model(config);
    const auto parameters = model->named_parameters();
    const auto table = describe_parameters(config);
    EXPECT_EQ(parameters.size(), table.size());
    for (const auto& row : table) {
      ASSERT_TRUE(parameters.contains(row.name)) << row.name;
      EXPECT_EQ(parameters[row.name].sizes().vec(), row.shape) << row.name;
    }
  });
}

}  // namespace
}  // namespace rwkvx
