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
    R"({"dilation": 3})",
    R"({"kernel": 3, "dilation": 2, "activation": "silu", "pos": "sin"})",
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

// The recipe of RWKV-LM (RWKV-v7/train_temp), 3 blocks of 128 channels, computed by another program
// from the formulas in docs/model.md.
TEST(Rwkv, Rwkv7StartsAsTheRecipeSays) {
  ModelConfig config;
  config.core = "rwkv7";
  config.n_layer = 3, config.n_embd = 128, config.vocab_size = 300;
  Rwkv model(config);
  model->initialize(1, 1e-3);
  const auto parameters = model->named_parameters();
  const auto of = [&](int layer, const std::string& name) {
    return parameters["blocks." + std::to_string(layer) + "." + name];
  };
  const struct {
    int layer;
    const char* name;
    int64_t channel;
    double value;
  } wanted[] = {
      {0, "att.x_r", 1, 0.621070858},
      {0, "att.x_r", 37, 0.219813644},
      {0, "att.x_r", 127, 0.00156740583},
      {0, "att.w0", 1, -7.79654527},
      {0, "att.w0", 37, -3.67575283},
      {0, "att.w0", 127, 3},
      {1, "att.x_w", 1, 0.94559059},
      {1, "att.x_w", 37, 0.525107782},
      {1, "att.x_w", 127, 0.00469485105},
      {1, "ffn.x_k", 1, 0.616503863},
      {1, "ffn.x_k", 37, 0.217419116},
      {1, "ffn.x_k", 127, 0.00154807012},
      {1, "att.w0", 1, -7.84286567},
      {1, "att.w0", 37, -4.78182835},
      {1, "att.w0", 127, 3},
      {1, "att.v0", 1, 0.926850394},
      {1, "att.v0", 37, 0.813464567},
      {1, "att.v0", 127, 0.53},
      {1, "att.k_k", 1, 0.759212598},
      {1, "att.k_k", 37, 0.730866142},
      {1, "att.k_k", 127, 0.66},
      {2, "att.x_k", 1, 0.677657423},
      {2, "att.x_k", 37, 0.251431739},
      {2, "att.x_k", 127, 0.00182840118},
      {2, "att.a0", 1, -0.668105118},
      {2, "att.a0", 37, -0.264318686},
      {2, "att.a0", 127, 0.31},
  };
  for (const auto& one : wanted)
    EXPECT_NEAR(of(one.layer, one.name).flatten()[one.channel].item<double>(), one.value, 1e-6)
        << one.layer << ' ' << one.name << ' ' << one.channel;
  // Ranks of the recipe at 128 channels; the matrices.
  EXPECT_EQ(of(1, "att.w1").sizes().vec(), (std::vector<int64_t>{128, 32}));
  EXPECT_EQ(of(1, "att.g2").sizes().vec(), (std::vector<int64_t>{64, 128}));
  for (const char* name : {"att.w1", "att.a1", "att.v1", "att.g1", "att.output.weight",
                           "ffn.value.weight", "att.ln_x.bias"})
    EXPECT_EQ(of(1, name).abs().max().item<double>(), 0) << name;
  const std::pair<const char*, double> gains[] = {{"att.receptance.weight", 1},
                                                  {"att.value.weight", 1},
                                                  {"att.key.weight", 0.1},
                                                  {"att.w2", 0.1},
                                                  {"att.g2", 0.1}};
  for (const auto& [name, gain] : gains) {
    const auto rows = of(2, name);
    expect_close(torch::mm(rows, rows.t()), torch::eye(rows.size(0)) * gain * gain, 0, 1e-5, name);
  }
  EXPECT_NEAR(of(0, "att.ln_x.weight")[5].item<double>(), std::pow(1.0 / 3, 0.7), 1e-6);
  EXPECT_NEAR(of(1, "att.k_a").flatten()[9].item<double>(), 1.02, 1e-6);
  EXPECT_NEAR(of(1, "att.r_k")[1][3].item<double>(), -0.04, 1e-6);
  EXPECT_LE(parameters["emb.weight"].abs().max().item<double>(), 1e-4);
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
