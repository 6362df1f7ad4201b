// Counted operations and parameters against the model and LibTorch's own count.
#include "rwkvx/cores/cost.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/profiler_kineto.h>
#include <torch/types.h>

#include "rwkvx/cores/parameters.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/study/grid.h"

namespace rwkvx {
namespace {

std::vector<std::pair<std::string, ModelConfig>> every_variant() {
  std::vector<std::pair<std::string, ModelConfig>> variants;
  const auto add = [&](const std::string& name, auto change) {
    ModelConfig config;
    config.n_layer = 2;
    config.n_embd = 32;
    config.vocab_size = 40;
    change(config);
    variants.emplace_back(name, config);
  };
  add("enhanced", [](auto&) {});
  add("none", [](auto& c) { c.shift.kind = ShiftKind::kNone; });
  for (const auto ablation : {Ablation::kConvOnly, Ablation::kGateOnly})
    add(enum_name(ablation), [&](auto& c) { c.shift.ablation = ablation; });
  for (const auto gate : {Gate::kOne, Gate::kScalar, Gate::kGroup, Gate::kLowrank})
    add("gate " + enum_name(gate), [&](auto& c) { c.shift.gate = gate; });
  for (const auto pos : {Position::kSin, Position::kNone})
    add("pos " + enum_name(pos), [&](auto& c) { c.shift.pos = pos; });
  for (const auto sites : {ShiftSites::kFirst, ShiftSites::kSecond})
    add("sites " + enum_name(sites), [&](auto& c) { c.shift.sites = sites; });
  for (const std::int64_t kernel : {1, 2, 8})
    add("kernel " + std::to_string(kernel), [&](auto& c) { c.shift.kernel = kernel; });
  add("dilation", [](auto& c) { c.shift.dilation = 3; });
  add("silu", [](auto& c) { c.shift.activation = Activation::kSilu; });
  add("own widths", [](auto& c) { c.dim_att = 48, c.dim_ffn = 72; });
  add("rwkv7", [](auto& c) { c.core = "rwkv7", c.head_size = 16, c.dim_ffn = 72; });
  return variants;
}

// Floating-point operations of matrix products as LibTorch's profiler counts them.
double profiled_products(const std::function<void()>& work) {
  namespace profiler = torch::autograd::profiler;
  const profiler::ProfilerConfig config(profiler::ProfilerState::KINETO,
                                        /*report_input_shapes=*/true, /*profile_memory=*/false,
                                        /*with_stack=*/false, /*with_flops=*/true);
  const std::set<profiler::ActivityType> activities{profiler::ActivityType::CPU};
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities);
  work();
  const auto found = profiler::disableProfiler();
  double sum = 0;
  for (const auto& event : found->events()) {
    const auto name = event.name();
    if (name == "aten::mm" || name == "aten::bmm" || name == "aten::addmm")
      sum += static_cast<double>(event.flops());
  }
  return sum;
}

TEST(ModelCost, ParametersAreTheModelsForEveryVariant) {
  for (const auto& [name, config] : every_variant()) {
    Rwkv model(config);
    std::int64_t count = 0;
    for (const auto& parameter : model->parameters()) count += parameter.numel();
    EXPECT_EQ(count_cost(config).parameters(), count) << name;
    EXPECT_EQ(parameter_count(config), count) << name;
  }
}

TEST(ModelCost, StateIsTheModelsForEveryVariant) {
  for (const auto& [name, config] : every_variant()) {
    std::int64_t count = 0;
    for (const auto& layer : Rwkv(config)->start(1).layers)
      for (const auto& tensor : layer) count += tensor.numel();
    EXPECT_EQ(count_cost(config).state_floats, count) << name;
  }
}

TEST(ModelCost, MatrixOperationsAreLibTorchsCountForEveryVariant) {
  const torch::NoGradGuard no_grad;
  const std::int64_t T = 19;
  for (const auto& [name, config] : every_variant()) {
    Rwkv model(config);
    model->to(torch::kFloat64);  // the modules alone, without fused kernels
    const auto tokens = torch::arange(T, torch::kInt64).unsqueeze(0);
    auto state = model->start(1);
    for (auto& layer : state.layers)
      for (auto& tensor : layer) tensor = tensor.to(torch::kFloat64);
    const double counted = profiled_products([&] { model->forward(tokens, state); });
    const auto cost = count_cost(config);
    EXPECT_EQ((cost.matrix() + cost.matrix_per_position) * static_cast<double>(T), counted) << name;
  }
}

TEST(ModelCost, TheStudiesVariantsAreCounted) {
  for (const std::string file : {"small", "full", "rwkv7-small", "rwkv7-full"}) {
    const auto study =
        read_study_file(std::string(RWKVX_SOURCE_DIR) + "/configs/studies/" + file + ".json");
    for (const auto& [name, variant] : study.variants) {
      auto config = variant.model;
      config.vocab_size = 257;
      EXPECT_EQ(count_cost(config).parameters(), parameter_count(config)) << name;
    }
  }
}

}  // namespace
}  // namespace rwkvx
