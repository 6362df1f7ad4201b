#include "rwkvx/train/train_bench.h"

#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <random>

#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/model/training_pass.h"
#include "rwkvx/modules/device.h"
#include "rwkvx/ops/precision.h"
#include "rwkvx/ops/threads.h"
#include "rwkvx/train/optimizer.h"
#include "train/computation.h"

namespace rwkvx {
namespace {

using Clock = std::chrono::steady_clock;

// Something that is timed: one call is one step.
class Work {
 public:
  virtual ~Work() = default;
  virtual void step() = 0;
  // Seconds by operator so far.
  virtual std::vector<std::pair<std::string, double>> operators() const { return {}; }
};

// Ends when the device has done what it was given.
void wait_for(c10::Device device) {
  if (!device.is_cpu()) torch::zeros({1}, torch::TensorOptions(device)).item();
}

// A model that trains on random tokens: by the fused pass, or by its modules.
class TrainingWork : public Work {
 public:
  TrainingWork(const TrainConfig& config, c10::Device device, bool reference)
      : config_(config.train), device_(device), model_(config.model) {
    model_->initialize(/*seed=*/1, 1e-4);
    model_->to(device);
    optimizer_ = std::make_unique<Optimizer>(*model_, config_);
    const auto B = config_.batch_size, T = config_.ctx_len;
    const auto place = PassPlace::of(
        device, uses_bfloat16(enum_name(config_.precision), device, "train.precision"));
    if (!reference && TrainingPass::supports(config.model, place)) {
      pass_ = std::make_unique<TrainingPass>(
          *model_, B * T, T,
          TrainingPassOptions{config_.grad_checkpoint == GradCheckpoint::kBlock, config_.l2wrap, B,
                              place,
                              [this](const at::Tensor& matrix, const at::Tensor& copy) {
                                return optimizer_->keep_copy(matrix, copy);
                              },
                              config_.cuda_graph});
    } else {
      modules_ = module_computation(model_, config_, {});
    }
    std::mt19937_64 random(1);
    std::uniform_int_distribution<std::int64_t> id(0, config.model.vocab_size - 1);
    for (auto* ids : {&batch_.inputs, &batch_.targets})
      for (std::int64_t i = 0; i < B * T; ++i) ids->push_back(id(random));
    batch_.lengths.assign(static_cast<std::size_t>(B), T);
    batch_.weight = static_cast<double>(B * T);
  }

  void step() override {
    LossSum loss;
    if (pass_ != nullptr)
      loss = pass_->loss_and_gradients(batch_.inputs.data(), batch_.targets.data(),
                                       config_.batch_size, config_.ctx_len, 1);
    else
      loss = modules_->gradients(batch_, 1, batch_.weight);
    const auto start = Clock::now();
    constexpr double kRate = 1e-4;
    if (optimizer_->steps_unread())
      optimizer_->step_unread(kRate, loss.on(device_));
    else
      optimizer_->step(kRate, optimizer_->grad_norm());
    adamw_seconds_ += std::chrono::duration<double>(Clock::now() - start).count();
    wait_for(device_);
  }

  std::vector<std::pair<std::string, double>> operators() const override {
    std::vector<std::pair<std::string, double>> all;
    // A device's work is only begun where its time is taken.
    if (pass_ == nullptr || !device_.is_cpu()) return all;
    all = pass_->seconds();
    all.emplace_back(kOptimizerOperator, adamw_seconds_);
    return all;
  }

 private:
  TrainingConfig config_;
  c10::Device device_;
  Rwkv model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<TrainingPass> pass_;
  std::unique_ptr<Computation> modules_;
  TokenBatch batch_;
  double adamw_seconds_ = 0;
};

// The products of every linear layer, into buffers that are reused.
class ProductsWork : public Work {
 public:
  ProductsWork(const TrainConfig& config, c10::Device device) : device_(device) {
    const std::int64_t N = config.train.batch_size * config.train.ctx_len;
    const auto options = torch::TensorOptions(device).dtype(linear_type(device, torch::kFloat32));
    const auto random = [&](std::int64_t rows, std::int64_t columns) {
      return torch::randn({rows, columns}, options);
    };
    // Matrices of one shape share their buffers; the embedding is looked up, not multiplied.
    for (const auto& row : describe_parameters(config.model)) {
      if (!row.matrix || row.part == kEmbeddingPart) continue;
      const std::int64_t out = row.outputs(), in = row.inputs();
      const auto same = std::ranges::find_if(layers_, [&](const Layer& layer) {
        return layer.w.size(0) == out && layer.w.size(1) == in;
      });
      if (same != layers_.end())
        ++same->times;
      else
        layers_.push_back({random(N, in), random(N, out), random(out, in), random(N, out),
                           random(N, in), random(out, in), 1});
    }
  }
  void step() override {
    const torch::NoGradGuard no_grad;
    for (auto& layer : layers_)
      for (std::int64_t i = 0; i < layer.times; ++i) {
        at::mm_out(layer.y, layer.x, layer.w.t());
        at::mm_out(layer.dx, layer.dy, layer.w);
        at::mm_out(layer.dw, layer.dy.t(), layer.x);
      }
    wait_for(device_);
  }

 private:
  struct Layer {
    at::Tensor x, dy, w, y, dx, dw;
    std::int64_t times;
  };
  c10::Device device_;
  std::vector<Layer> layers_;
};

std::unique_ptr<Work> make_work(const std::string& kind, const TrainConfig& config,
                                c10::Device device) {
  if (kind == "matrix_products") {
    std::optional<MixedPrecision> mixed;
    if (uses_bfloat16(enum_name(config.train.precision), device, "train.precision"))
      mixed.emplace(device);
    return std::make_unique<ProductsWork>(config, device);
  }
  auto changed = config;
  if (kind == "baseline") changed.model.shift.kind = ShiftKind::kNone;
  return std::make_unique<TrainingWork>(changed, device, kind == "reference");
}

}  // namespace

std::vector<TrainBenchSeries> bench_training(const TrainConfig& config,
                                             const TrainBenchOptions& options) {
  set_threads(config.train.threads);
  const auto device = find_device(config.train.device, "--device");
  std::vector<TrainBenchSeries> series;
  std::vector<std::unique_ptr<Work>> works;
  std::vector<std::vector<std::pair<std::string, double>>> before;
  for (const auto& kind : options.kinds) {
    series.push_back({kind, {}, {}, 0});
    works.push_back(make_work(kind, config, device));
    // The first one warms up; the last of these is recorded where there are graphs.
    const int warming = 1 + (config.train.cuda_graph ? kBatchesBeforeGraph : 0);
    for (int i = 0; i < warming; ++i) works.back()->step();
    before.push_back(works.back()->operators());
  }
  const InterruptGuard guard;
  Progress bar("measuring", options.rounds, options.quiet);
  for (std::int64_t round = 0; round < options.rounds && !interrupted(); ++round) {
    for (std::size_t i = 0; i < works.size(); ++i) {
      const auto start = Clock::now();
      works[i]->step();
      series[i].seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    bar.update(round + 1);
  }
  bar.finish();
  for (std::size_t i = 0; i < works.size(); ++i) {
    series[i].operators = works[i]->operators();
    series[i].device_memory_bytes = peak_device_memory_bytes(device);
    for (std::size_t j = 0; j < series[i].operators.size(); ++j)
      series[i].operators[j].second -= before[i][j].second;
  }
  return series;
}

}  // namespace rwkvx
