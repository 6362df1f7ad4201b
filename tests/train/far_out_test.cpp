// Training whose learning rate drives receptances, keys and decays far out: the fused operators
// against the modules in float64, at every step from the same parameters. What float32 can give
// there is measured by the modules in float32.
#include <ATen/ops/cross_entropy_loss.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "rwkvx/model/rwkv.h"
#include "rwkvx/model/training_pass.h"
#include "rwkvx/train/optimizer.h"
#include "support/long_tests.h"

namespace rwkvx {
namespace {

constexpr int64_t kB = 2, kT = 40, kV = 31;

struct Extremes {
  double loss = 0, gradient = 0;  // largest relative differences of the fused operators
  double module_loss = 0, module_gradient = 0;  // and of the modules in float32
  double lowest_decay = 0, largest_weight = 0;
  int64_t steps = 0;  // that were finite in the reference
};

Extremes drive_far_out(const std::string& core, ShiftKind kind, double rate) {
  ModelConfig config;
  config.core = core;
  if (core == "rwkv7") config.head_size = 8;
  config.n_layer = 2, config.n_embd = 16, config.vocab_size = kV;
  config.shift.kind = kind;
  Rwkv model(config), twin(config), modules(config);
  model->initialize(1, 1e-2);
  twin->to(torch::kFloat64);
  TrainingConfig training;
  training.learning_rate = rate;
  Optimizer optimizer(*model, training);
  TrainingPass pass(*model, kB * kT, kT, {});
  auto exact = twin->named_parameters(), narrow = modules->named_parameters();
  torch::manual_seed(5);
  Extremes found;
  for (; found.steps < 300; ++found.steps) {
    // Text with a rule, so that there is something to learn: every token follows from the two
    // before.
    auto tokens = torch::randint(kV, {kB, kT + 1}, torch::kInt64);
    for (int64_t t = 2; t <= kT; ++t)
      tokens.select(1, t).copy_((tokens.select(1, t - 1) + 3 * tokens.select(1, t - 2)) % kV);
    const auto inputs = tokens.slice(1, 0, kT).contiguous();
    const auto targets = tokens.slice(1, 1).contiguous();
    {
      const torch::NoGradGuard no_grad;
      for (const auto& item : model->named_parameters())
        exact[item.key()].copy_(item.value()), narrow[item.key()].copy_(item.value());
    }
    const auto run_modules = [&](Rwkv& net) {
      net->zero_grad();
      auto state = net->start(kB);
      const auto loss =
          at::cross_entropy_loss(net->forward(inputs, state).view({-1, kV}), targets.view({-1}));
      loss.backward();
      return loss.item<double>();
    };
    const double wanted = run_modules(twin), in_float32 = run_modules(modules);
    double size = 0;
    for (const auto& item : exact) size += item.value().grad().square().sum().item<double>();
    if (!std::isfinite(wanted) || !std::isfinite(size)) break;
    const auto gradient_error = [&](RwkvImpl& net) {
      double away = 0;
      for (const auto& item : net.named_parameters())
        away += (item.value().grad().to(torch::kFloat64) - exact[item.key()].grad())
                    .square()
                    .sum()
                    .item<double>();
      return std::sqrt(away / size);
    };
    const double loss = pass.loss_and_gradients(inputs.const_data_ptr<int64_t>(),
                                                targets.const_data_ptr<int64_t>(), kB, kT, 1);
    const double fused = gradient_error(*model);
    EXPECT_TRUE(std::isfinite(loss) && std::isfinite(fused))
        << "step " << found.steps + 1 << ": loss " << loss << " instead of " << wanted
        << ", gradient off by " << fused;
    found.loss = std::max(found.loss, std::abs(loss / wanted - 1));
    found.gradient = std::max(found.gradient, fused);
    found.module_loss = std::max(found.module_loss, std::abs(in_float32 / wanted - 1));
    found.module_gradient = std::max(found.module_gradient, gradient_error(*modules));
    for (const auto& item : exact) {
      const double most = item.value().abs().max().item<double>();
      found.largest_weight = std::max(found.largest_weight, most);
      if (item.key().find("time_decay") != std::string::npos)
        found.lowest_decay =
            std::min(found.lowest_decay, -std::exp(item.value().max().item<double>()));
    }
    optimizer.step(rate, optimizer.grad_norm());
  }
  std::cout << core << ' ' << enum_name(kind) << " at rate " << rate << ": " << found.steps
            << " steps, loss within " << found.loss << ", gradient within " << found.gradient
            << " (modules in float32: " << found.module_loss << ", " << found.module_gradient
            << "); weights up to " << found.largest_weight << ", decays down to "
            << found.lowest_decay << '\n';
  return found;
}

TEST(FarOutSlow, TrainingAgreesWithTheFloat64ModulesAtEveryStep) {
  for (const char* core : {"rwkv4", "rwkv7"})
    for (const auto kind : {ShiftKind::kNone, ShiftKind::kGatedPositional})
      for (const double rate : {0.5, 0.1, 1e-3}) {
        const bool rwkv7 = std::string(core) == "rwkv7";
        // At 0.5 RWKV-7 goes where float32 gives gradients that are wrong by a tenth, either way.
        if (rwkv7 && rate == 0.5) continue;
        if (rate != (rwkv7 ? 0.1 : 0.5) && !test::long_tests()) continue;
        const auto found = drive_far_out(core, kind, rate);
        EXPECT_GT(found.steps, 100);
        EXPECT_LT(found.loss, 1e-5 + 4 * found.module_loss);
        EXPECT_LT(found.gradient, 1e-3 + 4 * found.module_gradient);
      }
}

}  // namespace
}  // namespace rwkvx
