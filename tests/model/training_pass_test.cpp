#include "rwkvx/model/training_pass.h"

#include <ATen/ops/cross_entropy_loss.h>
#include <torch/types.h>

#include "rwkvx/model/rwkv.h"
#include "rwkvx/modules/device.h"
#include "support/pass_models.h"
#include "support/tensors.h"

namespace rwkvx {
namespace {

using test::expect_near_in_norm;

// The fused pass in float32 against the modules and LibTorch's gradients in float64.
void check(const std::string& switches, const BatchShape& shape,
           const TrainingPassOptions& options = {}, const std::string& core = "rwkv4") {
  SCOPED_TRACE(switches + " T " + std::to_string(shape.T) + " " + core +
               (options.place.kernels ? " on a device" : "") +
               (options.checkpoint_blocks ? " checkpointed" : ""));
  const auto config = config_of(switches, shape, core);
  ASSERT_TRUE(TrainingPass::supports(config));
  Rwkv model(config), twin(config);
  disturb(*model);
  disturb(*twin);
  twin->to(torch::kFloat64);
  model->to(options.place.device);
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
    expect_near_in_norm(item.value().grad().cpu(), reference[item.key()].grad(), 1e-5, item.key(),
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
  for (const int64_t T : {1, 15, 16, 200}) check("{}", {2, T, 24, 31}, {}, "rwkv7");
  check("{}", {3, 40, 16, 23}, again, "rwkv7");
}

TEST(TrainingPass, GivesTheModulesLossAndGradientsWithADevicesKernels) {
  auto options = on_device();
  for (const char* core : {"rwkv4", "rwkv7"}) {
    for (const char* switches :
         {R"({"kind": "none"})", R"({})", R"({"sites": "a"})", R"({"sites": "f", "kernel": 7})",
          R"({"kernel": 1})", R"({"pos": "sin"})", R"({"pos": "none"})",
          R"({"ablation": "conv_only"})", R"({"ablation": "gate_only"})", R"({"gate": "one"})"})
      check(switches, {3, 17, 32, 29}, options, core);
    for (const int64_t T : {1, 2, 31, 33, 200}) check("{}", {2, T, 16, 31}, options, core);
    auto again = options;
    again.checkpoint_blocks = true, again.l2wrap = 0.1;
    check("{}", {3, 40, 16, 23}, again, core);
    check("{}", {2, 1100, 16, 23}, options, core);  // more rows than the head takes at a time
  }
}

TEST(CudaTrainingPass, GivesTheModulesLossAndGradientsOnTheGpu) {
  auto options = on_device();
  options.place.device = find_device("auto", "test");
  if (options.place.device.is_cpu()) GTEST_SKIP() << "no GPU that this build has kernels for";
  for (const char* core : {"rwkv4", "rwkv7"})
    for (const int64_t T : {1, 33, 200}) {
      auto again = options;
      check("{}", {3, T, 64, 29}, options, core);
      again.checkpoint_blocks = true, again.l2wrap = 0.1;
      check(R"({"pos": "sin"})", {2, T, 64, 31}, again, core);
    }
}

// Of the states behind them as well; the next call may write over what the first one gave.
TEST(TrainingPass, LogitsAreTheModules) {
  for (const char* core : {"rwkv4", "rwkv7"})
    for (const auto& options : {TrainingPassOptions{}, on_device()}) {
      Rwkv model(config_of("{}", {2, 7, 32, 29}, core));
      disturb(*model);
      const auto inputs = torch::randint(29, {2, 7}, torch::kInt64);
      auto wanted = model->start(2), found = model->start(2);
      const torch::NoGradGuard no_grad;
      const auto logits = model->forward(inputs, wanted).view({14, 29});
      TrainingPass pass(*model, 14, 7, options);
      auto batch = TrainingBatch::of_rows(inputs.const_data_ptr<int64_t>(), nullptr, 2, 7);
      batch.states.after = &found;
      expect_near_in_norm(pass.logits(batch), logits, 1e-5);
      for (std::size_t l = 0; l < wanted.layers.size(); ++l)
        for (std::size_t i = 0; i < wanted.layers[l].size(); ++i)
          expect_near_in_norm(found.layers[l][i], wanted.layers[l][i], 1e-5, core, 1e-6);
    }
}

// Of the gradients of all parameters together, as those of single ones are small beside rounding.
TEST(TrainingPass, InBfloat16StaysNearTheModules) {
  for (const char* core : {"rwkv4", "rwkv7"}) {
    const auto config = config_of("{}", {1, 1, 32, 29}, core);
    Rwkv model(config), twin(config);
    disturb(*model);
    disturb(*twin);
    twin->to(torch::kFloat64);
    const auto inputs = torch::randint(29, {3, 40}, torch::kInt64);
    const auto targets = torch::randint(29, {3, 40}, torch::kInt64);
    auto state = twin->start(3);
    const auto wanted =
        at::cross_entropy_loss(twin->forward(inputs, state).view({-1, 29}), targets.view({-1}));
    wanted.backward();
    for (auto& parameter : model->parameters())
      parameter.mutable_grad() = torch::zeros_like(parameter);
    TrainingPass pass(*model, 120, 40, on_device(at::kBFloat16));
    const double loss = pass.loss_and_gradients(inputs.const_data_ptr<int64_t>(),
                                                targets.const_data_ptr<int64_t>(), 3, 40, 1);
    EXPECT_NEAR(loss, wanted.item<double>(), 5e-3 * loss) << core;
    auto reference = twin->named_parameters();
    std::vector<at::Tensor> found, exact;
    for (const auto& item : model->named_parameters()) {
      found.push_back(item.value().grad().flatten());
      exact.push_back(reference[item.key()].grad().flatten());
      expect_near_in_norm(found.back(), exact.back(), 0.2, core + item.key(), /*smallest=*/1e-4);
    }
    expect_near_in_norm(at::cat(found), at::cat(exact), 0.02, core);
    // The matrices are read again at each call.
    const torch::NoGradGuard no_grad;
    model->head.zero_();
    EXPECT_NEAR(
        pass.loss(inputs.const_data_ptr<int64_t>(), targets.const_data_ptr<int64_t>(), 3, 40),
        std::log(29), 1e-3);
  }
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

constexpr const char* kCores[] = {"rwkv4", "rwkv7"};

void clear_gradients(RwkvImpl& model) {
  for (auto& parameter : model.parameters())
    parameter.mutable_grad() = torch::zeros_like(parameter);
}

// A float32 model and the same in float64.
struct Twins {
  explicit Twins(const ModelConfig& config) : model(config), exact(config) {
    disturb(*model);
    disturb(*exact);
    exact->to(torch::kFloat64);
    clear_gradients(*model);
  }
  void expect_equal_gradients(double factor = 1) {
    auto reference = exact->named_parameters();
    for (const auto& item : model->named_parameters())
      expect_near_in_norm(item.value().grad(), reference[item.key()].grad() * factor, 1e-5,
                          item.key(), /*smallest=*/1e-7);
  }
  Rwkv model, exact;
};

// Documents of several lengths one after the other, with weights of their tokens.
struct Packed {
  explicit Packed(int64_t vocab) {
    int64_t begin = 0;
    for (const int64_t tokens : {5, 1, 33, 2, 17}) {
      batch.sequences.push_back({begin, tokens, 0});
      begin += tokens;
    }
    inputs = torch::randint(vocab, {begin}, torch::kInt64);
    targets = torch::randint(vocab, {begin}, torch::kInt64);
    weights = torch::randint(3, {begin}, torch::kFloat32);
    batch.inputs = inputs.const_data_ptr<int64_t>();
    batch.targets = targets.const_data_ptr<int64_t>();
    batch.weights = weights.const_data_ptr<float>();
  }
  at::Tensor inputs, targets, weights;
  TrainingBatch batch;
};

// The sum of the weighted losses of rows [begin, begin + tokens), from `state` on.
at::Tensor exact_loss(RwkvImpl& model, const Packed& packed, int64_t begin, int64_t tokens,
                      ModelState& state) {
  const auto logits = model.forward(packed.inputs.narrow(0, begin, tokens).unsqueeze(0), state);
  const auto each = at::cross_entropy_loss(
      logits.squeeze(0), packed.targets.narrow(0, begin, tokens), {}, at::Reduction::None);
  return (each * packed.weights.narrow(0, begin, tokens)).sum();
}

// The loss of the documents, each alone, whose gradients the model's parameters then have.
double exact_gradients(RwkvImpl& model, const Packed& packed) {
  double sum = 0;
  for (const auto& one : packed.batch.sequences) {
    auto state = model.start(1);
    const auto loss = exact_loss(model, packed, one.begin, one.tokens, state);
    loss.backward();
    sum += loss.item<double>();
  }
  return sum;
}

TEST(TrainingPass, DocumentsOfAPackedBatchDoNotSeeEachOther) {
  for (const char* core : kCores)
    for (const char* switches : {R"({"kind": "none"})", R"({})", R"({"pos": "sin", "sites": "a"})"})
      for (const bool again : {false, true}) {
        SCOPED_TRACE(std::string(core) + switches);
        Twins twins(config_of(switches, {1, 1, 32, 29}, core));
        const Packed packed(29);
        const double wanted = exact_gradients(*twins.exact, packed);
        auto options = again ? on_device() : TrainingPassOptions();
        options.sequences = 5, options.checkpoint_blocks = again;
        TrainingPass pass(*twins.model, 58, 33, options);
        EXPECT_NEAR(pass.loss_and_gradients(packed.batch, 0.5), wanted, 1e-5 * wanted);
        twins.expect_equal_gradients(0.5);
        EXPECT_NEAR(pass.loss(packed.batch), wanted, 1e-5 * wanted);
      }
}

// A sequence cut at `cuts`, the gradient walking back through the states, against the whole one.
void check_segments(const std::string& switches, const char* core,
                    const std::vector<int64_t>& cuts) {
  SCOPED_TRACE(std::string(core) + " " + switches);
  Twins twins(config_of(switches, {1, 1, 24, 29}, core));
  Packed packed(29);
  const int64_t total = packed.inputs.size(0);
  auto whole = twins.exact->start(1);
  const auto wanted = exact_loss(*twins.exact, packed, 0, total, whole);
  wanted.backward();

  TrainingPass pass(*twins.model, total, total, {});
  std::vector<ModelState> states{twins.model->start(1)};
  std::vector<TrainingBatch> parts;
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
    TrainingBatch part = packed.batch;
    part.inputs += cuts[i], part.targets += cuts[i], part.weights += cuts[i];
    part.sequences = {{0, cuts[i + 1] - cuts[i], cuts[i]}};
    parts.push_back(part);
    states.push_back(zeros_like(states.front()));
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    parts[i].states.before = &states[i], parts[i].states.after = &states[i + 1];
    pass.advance(parts[i]);
  }
  double sum = 0;
  auto after = zeros_like(states.front()), before = zeros_like(states.front());
  for (std::size_t i = parts.size(); i-- > 0;) {
    parts[i].states.grad_after = i + 1 == parts.size() ? nullptr : &after;
    parts[i].states.grad_before = &before;
    sum += pass.loss_and_gradients(parts[i], 1);
    std::swap(after, before);
  }
  EXPECT_NEAR(sum, wanted.item<double>(), 1e-5 * sum);
  twins.expect_equal_gradients();
}

TEST(TrainingPass, GradientsThroughStatesAreThoseOfTheWholeSequence) {
  for (const char* core : kCores)
    for (const char* switches : {R"({"kind": "none"})", R"({})", R"({"pos": "sin", "kernel": 6})",
                                 R"({"ablation": "gate_only"})", R"({"gate": "one"})"}) {
      check_segments(switches, core, {0, 20, 21, 23, 40, 58});
      check_segments(switches, core, {0, 1, 2, 3, 58});
    }
}

TEST(TrainingPass, TheModulesGradientsReachThroughADifferentiableState) {
  for (const char* core : kCores) {
    Rwkv whole(config_of("{}", {1, 1, 24, 29}, core)), cut(config_of("{}", {1, 1, 24, 29}, core));
    for (auto* model : {&whole, &cut}) {
      disturb(**model);
      (*model)->to(torch::kFloat64);
    }
    const Packed packed(29);
    auto state = whole->start(1);
    exact_loss(*whole, packed, 0, 58, state).backward();
    state = cut->start(1);
    state.differentiable = true;
    auto sum = exact_loss(*cut, packed, 0, 20, state);
    for (const auto& [begin, tokens] : {std::pair{20, 2}, std::pair{22, 36}})
      sum = sum + exact_loss(*cut, packed, begin, tokens, state);
    sum.backward();
    auto reference = whole->named_parameters();
    for (const auto& item : cut->named_parameters())
      expect_near_in_norm(item.value().grad(), reference[item.key()].grad(), 1e-12, item.key(),
                          /*smallest=*/1e-12);
  }
}

void check_adapters(const char* core, TrainingPassOptions options) {
  Twins twins(config_of("{}", {1, 1, 32, 29}, core));
  const Packed packed(29);
  options.sequences = 5;
  TrainingPass pass(*twins.model, 58, 33, options);
  std::vector<std::pair<std::string, PassAdapter>> adapters;
  for (const std::string name : {"blocks.0.att.key.weight", "blocks.2.ffn.value.weight",
                                 "blocks.1.att.output.weight", "head.weight"}) {
    auto matrix = twins.model->named_parameters()[name];
    PassAdapter one{torch::randn({3, matrix.size(1)}) * 0.1,
                    torch::randn({matrix.size(0), 3}) * 0.1, 0.7f};
    one.a.mutable_grad() = torch::zeros_like(one.a);
    one.b.mutable_grad() = torch::zeros_like(one.b);
    pass.add_adapter(matrix, one);
    const torch::NoGradGuard no_grad;
    twins.exact->named_parameters()[name] += 0.7f * torch::mm(one.b, one.a).to(torch::kFloat64);
    adapters.emplace_back(name, one);
    matrix.mutable_grad() = at::Tensor();
  }
  const double wanted = exact_gradients(*twins.exact, packed);
  EXPECT_NEAR(pass.loss_and_gradients(packed.batch, 1), wanted, 1e-5 * wanted);
  auto reference = twins.exact->named_parameters();
  for (const auto& [name, one] : adapters) {
    const auto whole = reference[name].grad() * 0.7;
    expect_near_in_norm(one.a.grad(), torch::mm(one.b.t().to(torch::kFloat64), whole), 2e-5,
                        name + " a");
    expect_near_in_norm(one.b.grad(), torch::mm(whole, one.a.t().to(torch::kFloat64)), 2e-5,
                        name + " b");
  }
  for (const auto& item : twins.model->named_parameters())
    if (item.value().grad().defined())
      expect_near_in_norm(item.value().grad(), reference[item.key()].grad(), 1e-5, item.key(),
                          /*smallest=*/1e-7);
}

TEST(TrainingPass, ALowRankAdditionIsAnotherMatrix) {
  for (const char* core : kCores) {
    check_adapters(core, {});
    check_adapters(core, on_device());
  }
}

TEST(TrainingPass, ParametersWithoutAGradientStayWithout) {
  for (const char* core : kCores) {
    Twins some(config_of("{}", {1, 1, 24, 29}, core)), all(config_of("{}", {1, 1, 24, 29}, core));
    torch::manual_seed(3);
    const Packed packed(29);
    TrainingPassOptions options;
    options.sequences = 5;
    for (auto& item : some.model->named_parameters())
      if (item.key().find(".shift.") == std::string::npos)
        item.value().mutable_grad() = at::Tensor();
    TrainingPass(*some.model, 58, 33, options).loss_and_gradients(packed.batch, 1);
    TrainingPass(*all.model, 58, 33, options).loss_and_gradients(packed.batch, 1);
    auto reference = all.model->named_parameters();
    for (const auto& item : some.model->named_parameters()) {
      const auto grad = item.value().grad();
      if (grad.defined()) {
        EXPECT_TRUE(torch::equal(grad, reference[item.key()].grad())) << item.key();
      }
    }
  }
}

// The gradient of a model with dropout is that of the loss with the same zeros: finite differences.
TEST(TrainingPass, DropoutHasTheGradientOfItsLoss) {
  for (const char* core : kCores) {
    Twins twins(config_of("{}", {1, 1, 24, 29}, core));
    Packed packed(29);
    packed.batch.dropout = 0.3, packed.batch.dropout_key = 5;
    TrainingPassOptions options;
    options.sequences = 5, options.checkpoint_blocks = true;
    TrainingPass pass(*twins.model, 58, 33, options);
    const double loss = pass.loss_and_gradients(packed.batch, 1);
    EXPECT_EQ(pass.loss(packed.batch), loss);
    if (std::string(core) == "rwkv4") {  // a device has no heads of 8
      auto device = on_device();
      device.sequences = 5;
      EXPECT_NEAR(TrainingPass(*twins.model, 58, 33, device).loss(packed.batch), loss, 1e-5 * loss);
    }
    packed.batch.dropout_key = 6;
    EXPECT_NE(pass.loss(packed.batch), loss);
    packed.batch.dropout_key = 5;
    const torch::NoGradGuard no_grad;
    for (const auto& item : twins.model->named_parameters()) {
      auto value = item.value();
      const auto grad = item.value().grad();
      const double slope = grad.norm().item<double>();
      if (slope < 1e-2) continue;
      const auto way = grad / slope, kept = value.clone();
      const double step = 1e-2;
      value.copy_(kept + step * way);
      const double up = pass.loss(packed.batch);
      value.copy_(kept - step * way);
      const double down = pass.loss(packed.batch);
      value.copy_(kept);
      EXPECT_NEAR((up - down) / (2 * step), slope, 0.03 * slope + 0.02) << core << item.key();
    }
  }
}

TEST(TrainingPass, ABatchWithoutALossHasNoGradient) {
  for (auto options : {TrainingPassOptions(), on_device()}) {
    options.sequences = 5;
    Twins twins(config_of("{}", {1, 1, 32, 29}));
    Packed packed(29);
    packed.weights.zero_();
    TrainingPass pass(*twins.model, 58, 58, options);
    EXPECT_EQ(pass.loss_and_gradients(packed.batch, 1), 0);
    for (const auto& parameter : twins.model->parameters())
      EXPECT_EQ(parameter.grad().abs().max().item<float>(), 0);
  }
}

// Pieces of a sequence that go on from the states of those before, on a device as on the CPU.
TEST(TrainingPass, StatesOnADeviceAreTheCpus) {
  for (const char* core : kCores) {
    Twins twins(config_of("{}", {1, 1, 32, 29}, core));
    const Packed packed(29);
    TrainingPass cpu(*twins.model, 58, 58, {}), device(*twins.model, 58, 58, on_device());
    auto cpu_state = twins.model->start(1), device_state = twins.model->start(1);
    const auto go_on = [](TrainingPass& pass, TrainingBatch part, ModelState& state) {
      auto after = zeros_like(state);
      part.states.before = &state, part.states.after = &after;
      const double loss = pass.loss(part);
      state = after;
      return loss;
    };
    for (const auto& [begin, tokens] : {std::pair{0, 2}, std::pair{2, 1}, std::pair{3, 55}}) {
      auto part = packed.batch;
      part.inputs += begin, part.targets += begin, part.weights += begin;
      part.sequences = {{0, tokens, begin}};
      const double wanted = go_on(cpu, part, cpu_state);
      EXPECT_NEAR(go_on(device, part, device_state), wanted, 1e-5 * wanted);
      for (std::size_t l = 0; l < cpu_state.layers.size(); ++l)
        for (std::size_t i = 0; i < cpu_state.layers[l].size(); ++i)
          expect_near_in_norm(device_state.layers[l][i], cpu_state.layers[l][i], 1e-5,
                              std::string(core) + std::to_string(l) + " " + std::to_string(i),
                              1e-6);
    }
  }
}

TEST(TrainingPass, TakesBatchesSmallerThanItWasMadeFor) {
  const BatchShape shape{4, 30, 16, 19};
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
