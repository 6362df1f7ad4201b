#include "rwkvx/model/training_pass.h"

#include <ATen/ops/cross_entropy_loss.h>
#include <torch/types.h>

#include "rwkvx/model/rwkv.h"
#include "support/tensors.h"

namespace rwkvx {
namespace {

using test::expect_near_in_norm;

struct Shape {
  int64_t B, T, C, V;
};

ModelConfig config_of(const std::string& switches, const Shape& shape,
                      const std::string& core = "rwkv4") {
  auto json = nlohmann::json{{"core", core},
                             {"n_layer", 3},
                             {"n_embd", shape.C},
                             {"vocab_size", shape.V},
                             {"dim_ffn", 3 * shape.C}};
  if (core == "rwkv7")
    json.update({{"head_size", 8},
                 {"decay_rank", 5},
                 {"iclr_rank", 6},
                 {"value_rank", 7},
                 {"gate_rank", 9}});
  json["shift"] = nlohmann::json::parse(switches);
  return config_from_json<ModelConfig>(json, "model");
}

void disturb(RwkvImpl& model) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(9);
  model.initialize(1, 1e-2);
  for (auto& parameter : model.parameters()) parameter += torch::randn(parameter.sizes()) * 0.1;
}

// The fused pass in float32 against the modules and LibTorch's gradients in float64.
void check(const std::string& switches, const Shape& shape, const TrainingPassOptions& options = {},
           const std::string& core = "rwkv4") {
  SCOPED_TRACE(switches + " T " + std::to_string(shape.T) +
               (options.checkpoint_blocks ? " checkpointed" : ""));
  const auto config = config_of(switches, shape, core);
  ASSERT_TRUE(TrainingPass::supports(config));
  Rwkv model(config), twin(config);
  disturb(*model);
  disturb(*twin);
  twin->to(torch::kFloat64);
  const auto inputs = torch::randint(shape.V, {shape.B, shape.T}, torch::kInt64);
  const auto targets = torch::randint(shape.V, {shape.B, shape.T}, torch::kInt64);

  auto state = twin->start(shape.B);
  const auto logits = twin->forward(inputs, state).view({-1, shape.V});
  const auto wanted = at::cross_entropy_loss(logits, targets.view({-1}));
  auto total = wanted * 0.25;
  if (options.l2wrap > 0)
    total = total + 0.25 * 0.5 * options.l2wrap * std::get<0>(logits.max(1)).square().mean();
  total.backward();

  for (auto& parameter : model->parameters())
    parameter.mutable_grad() = torch::zeros_like(parameter);
  TrainingPass pass(*model, shape.B * shape.T, shape.T, options);
  const auto *in = inputs.const_data_ptr<int64_t>(), *out = targets.const_data_ptr<int64_t>();
  const double loss = pass.loss_and_gradients(in, out, shape.B, shape.T, 0.25);
  EXPECT_NEAR(loss, wanted.item<double>(), 1e-5 * std::abs(wanted.item<double>()));
  EXPECT_NEAR(pass.loss(in, out, shape.B, shape.T), loss, 1e-9);
  auto reference = twin->named_parameters();
  for (const auto& item : model->named_parameters())
    expect_near_in_norm(item.value().grad(), reference[item.key()].grad(), 1e-5, item.key(),
                        /*smallest=*/1e-7);
}

TEST(TrainingPass, GivesTheModulesLossAndGradients) {
  for (const char* switches :
       {R"({"kind": "none"})", R"({})", R"({"sites": "a"})", R"({"sites": "f", "kernel": 7})",
        R"({"kernel": 1})", R"({"pos": "sin"})", R"({"pos": "none"})",
        R"({"ablation": "conv_only"})", R"({"ablation": "gate_only"})", R"({"gate": "one"})"})
    check(switches, {3, 17, 24, 29});
}

TEST(TrainingPass, GivesTheModulesLossAndGradientsOfRwkv7) {
  TrainingPassOptions again;
  again.checkpoint_blocks = true;
  for (const char* switches : {R"({"kind": "none"})", R"({})", R"({"sites": "a"})",
                               R"({"pos": "sin"})", R"({"ablation": "gate_only"})"})
    check(switches, {3, 17, 24, 29}, {}, "rwkv7");
  for (const int64_t T : {1, 15, 16, 200}) check("{}", {2, T, 16, 31}, {}, "rwkv7");
  check("{}", {3, 40, 16, 23}, again, "rwkv7");
}

TEST(TrainingPass, TakesSequencesOfAnyLength) {
  for (const int64_t T : {1, 2, 31, 33, 200}) check("{}", {2, T, 20, 31});
}

TEST(TrainingPass, GivesTheSameWhenBlocksAreRunAgain) {
  TrainingPassOptions options;
  options.checkpoint_blocks = true;
  check("{}", {3, 40, 16, 23}, options);
}

TEST(TrainingPass, PullsOnTheLargestLogit) {
  TrainingPassOptions options;
  options.l2wrap = 0.1;
  check("{}", {2, 9, 16, 23}, options);
}

TEST(TrainingPassSlow, GivesTheModulesLossAndGradientsOnLongSequences) {
  for (const int64_t T : {500, 4097})
    for (const char* core : {"rwkv4", "rwkv7"}) check("{}", {1, T, 16, 23}, {}, core);
}

TEST(TrainingPass, TakesBatchesSmallerThanItWasMadeFor) {
  const Shape shape{4, 30, 16, 19};
  Rwkv model(config_of("{}", shape));
  disturb(*model);
  TrainingPass pass(*model, 120, 30, {});
  const auto inputs = torch::randint(19, {2, 11}, torch::kInt64);
  const auto targets = torch::randint(19, {2, 11}, torch::kInt64);
  const torch::NoGradGuard no_grad;
  auto state = model->start(2);
  const auto wanted =
      at::cross_entropy_loss(model->forward(inputs, state).view({22, 19}), targets.view({22}));
  EXPECT_NEAR(pass.loss(inputs.const_data_ptr<int64_t>(), targets.const_data_ptr<int64_t>(), 2, 11),
              wanted.item<double>(), 1e-5);
}

}  // namespace
}  // namespace rwkvx
