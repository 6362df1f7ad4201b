#include "rwkvx/train/train_bench.h"

#include <ATen/ops/cross_entropy_loss.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <random>

#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/model/training_pass.h"
#include "rwkvx/ops/threads.h"
#include "rwkvx/train/optimizer.h"

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

// A model that trains on random tokens.
class TrainingWork : public Work {
 public:
  TrainingWork(const TrainConfig& config, bool reference)
      : config_(config.train), model_(config.model), tokens_(config_.batch_size * config_.ctx_len) {
    model_->initialize(/*seed=*/1, 1e-4);
    optimizer_ = std::make_unique<Optimizer>(*model_, config_);
    if (!reference && TrainingPass::supports(config.model))
      pass_ = std::make_unique<TrainingPass>(
          *model_, tokens_, config_.ctx_len,
          TrainingPassOptions{config_.grad_checkpoint == GradCheckpoint::kBlock, config_.l2wrap});
    std::mt19937_64 random(1);
    std::uniform_int_distribution<std::int64_t> id(0, config.model.vocab_size - 1);
    for (auto* ids : {&inputs_, &targets_})
      for (std::int64_t i = 0; i < tokens_; ++i) ids->push_back(id(random));
  }

  void step() override {
    const std::int64_t B = config_.batch_size, T = config_.ctx_len;
    if (pass_ != nullptr) {
      pass_->loss_and_gradients(inputs_.data(), targets_.data(), B, T, 1);
    } else {
      auto state = model_->start(B);
      const auto options = torch::TensorOptions(torch::kInt64);
      const auto logits =
          model_->forward(torch::from_blob(inputs_.data(), {B, T}, options), state);  // (B, T, V)
      at::cross_entropy_loss(logits.view({B * T, -1}),
                             torch::from_blob(targets_.data(), {B * T}, options))
          .backward();
    }
    const auto start = Clock::now();
    optimizer_->step(/*rate=*/1e-4, optimizer_->grad_norm());
    adamw_seconds_ += std::chrono::duration<double>(Clock::now() - start).count();
  }

  std::vector<std::pair<std::string, double>> operators() const override {
    std::vector<std::pair<std::string, double>> all;
    if (pass_ == nullptr) return all;
    all = pass_->seconds();
    all.emplace_back("adamw", adamw_seconds_);
    return all;
  }

 private:
  TrainingConfig config_;
  Rwkv model_;
  std::int64_t tokens_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<TrainingPass> pass_;
  std::vector<std::int64_t> inputs_, targets_;
  double adamw_seconds_ = 0;
};

// The products of every linear layer, into buffers that are reused.
class ProductsWork : public Work {
 public:
  explicit ProductsWork(const TrainConfig& config) {
    const std::int64_t N = config.train.batch_size * config.train.ctx_len;
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
        layers_.push_back({torch::randn({N, in}), torch::randn({N, out}), torch::randn({out, in}),
                           torch::empty({N, out}), torch::empty({N, in}), torch::empty({out, in}),
                           1});
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
  }

 private:
  struct Layer {
    at::Tensor x, dy, w, y, dx, dw;
    std::int64_t times;
  };
  std::vector<Layer> layers_;
};

std::unique_ptr<Work> make_work(const std::string& kind, const TrainConfig& config) {
  if (kind == "matrix_products") return std::make_unique<ProductsWork>(config);
  auto changed = config;
  if (kind == "baseline") changed.model.shift.kind = ShiftKind::kNone;
  return std::make_unique<TrainingWork>(changed, kind == "reference");
}

}  // namespace

std::vector<TrainBenchSeries> bench_training(const TrainConfig& config,
                                             const TrainBenchOptions& options) {
  set_threads(config.train.threads);
  std::vector<TrainBenchSeries> series;
  std::vector<std::unique_ptr<Work>> works;
  std::vector<std::vector<std::pair<std::string, double>>> before;
  for (const auto& kind : options.kinds) {
    series.push_back({kind, {}, {}, 0});
    works.push_back(make_work(kind, config));
    works.back()->step();
    before.push_back(works.back()->operators());
  }
  const InterruptGuard guard;
  Progress bar("measuring", options.rounds, /*quiet=*/false);
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
    for (std::size_t j = 0; j < series[i].operators.size(); ++j)
      series[i].operators[j].second -= before[i][j].second;
  }
  return series;
}

}  // namespace rwkvx
