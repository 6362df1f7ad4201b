#include <ATen/ops/cross_entropy_loss.h>
#include <torch/types.h>

#include <algorithm>

#include "rwkvx/base/splitmix64.h"
#include "rwkvx/modules/block.h"
#include "rwkvx/modules/device.h"
#include "rwkvx/ops/precision.h"
#include "train/computation.h"

namespace rwkvx {
namespace {

// Sequences as rows of the longest one's length: what is behind the end of a shorter one has no
// weight, and nothing before it sees it.
struct Rows {
  at::Tensor inputs, targets, weights;  // (R, T)
};

// A matrix with a low-rank addition, which is in it while a batch runs.
struct Merged {
  at::Tensor matrix, base;
  PassAdapter adapter;
};

class Modules : public Computation {
 public:
  Modules(Rwkv model, const TrainingConfig& config, const Additions& additions)
      : model_(std::move(model)), config_(config), learned_(additions.state) {
    auto parameters = model_->named_parameters();
    device_ = parameters.begin()->value().device();
    for (const auto& [name, adapter] : additions.adapters) {
      auto& matrix = parameters[name];
      matrix.set_requires_grad(true);
      merged_.push_back({matrix, matrix.detach().clone(), adapter});
    }
  }

  LossSum gradients(const TokenBatch& batch, double share, double weight,
                    const Complete&) override {
    merge();
    model_->dropout = config_.dropout;
    if (config_.dropout > 0) {
      auto seed = splitmix64(static_cast<std::uint64_t>(config_.seed),
                             static_cast<std::uint64_t>(batch.position));
      if (batch.first_token > 0)
        seed = splitmix64(seed, static_cast<std::uint64_t>(batch.first_token));
      torch::manual_seed(seed);
    }
    double sum = 0;
    if (const auto rows = rows_of(batch); is_plain(batch)) {
      const double part = batch.weight / weight;  // 1 for a whole batch
      sum = run_plain(rows.front(), share * part) * part;
    } else {
      for (const auto& one : rows) sum += run(one, share / weight);
      sum /= weight;
    }
    model_->dropout = 0;
    split();
    return sum;
  }
  LossSum loss(const TokenBatch& batch) override {
    merge();
    const torch::NoGradGuard no_grad;
    double sum = 0;
    if (const auto rows = rows_of(batch); is_plain(batch)) {
      sum = run_plain(rows.front(), 0);
    } else {
      for (const auto& one : rows) sum += run(one, 0);
      sum /= batch.weight;
    }
    split();
    return sum;
  }

 private:
  // The reference of LoRA: the matrix is what it stands for, and its gradient gives the factors'.
  void merge() {
    const torch::NoGradGuard no_grad;
    for (auto& one : merged_)
      one.matrix.copy_(one.base + one.adapter.scale * torch::mm(one.adapter.b, one.adapter.a));
  }
  void split() {
    const torch::NoGradGuard no_grad;
    for (auto& one : merged_) {
      auto& grad = one.matrix.mutable_grad();
      one.matrix.copy_(one.base);
      if (!grad.defined()) continue;
      one.adapter.a.mutable_grad().add_(torch::mm(one.adapter.b.t(), grad), one.adapter.scale);
      one.adapter.b.mutable_grad().add_(torch::mm(grad, one.adapter.a.t()), one.adapter.scale);
      grad = at::Tensor();
    }
  }

  std::vector<Rows> rows_of(const TokenBatch& batch) const {
    const auto tokens = static_cast<std::int64_t>(batch.inputs.size());
    std::vector<Rows> all;
    std::size_t first = 0;
    std::int64_t begin = 0;
    while (first < batch.lengths.size()) {
      std::size_t end = first;
      std::int64_t longest = 0;
      for (; end < batch.lengths.size(); ++end) {
        const auto wider = std::max(longest, batch.lengths[end]);
        if (end > first && wider * static_cast<std::int64_t>(end + 1 - first) > tokens) break;
        longest = wider;
      }
      const auto count = static_cast<std::int64_t>(end - first);
      Rows rows{torch::zeros({count, longest}, torch::kInt64),
                torch::zeros({count, longest}, torch::kInt64), torch::zeros({count, longest})};
      for (std::int64_t row = 0; first < end; ++first, ++row) {
        const auto length = batch.lengths[first];
        const auto put = [&](const at::Tensor& to, const auto* from) {
          using Value = std::remove_cvref_t<decltype(*from)>;
          std::copy_n(from + begin, length, to.mutable_data_ptr<Value>() + row * longest);
        };
        put(rows.inputs, batch.inputs.data());
        put(rows.targets, batch.targets.data());
        if (batch.weights.empty())
          rows.weights[row].slice(0, 0, length).fill_(1);
        else
          put(rows.weights, batch.weights.data());
        begin += length;
      }
      for (auto* one : {&rows.inputs, &rows.targets, &rows.weights}) *one = one->to(device_);
      all.push_back(rows);
    }
    return all;
  }

  ModelState start(std::int64_t count) const {
    auto state = model_->start(count);
    if (learned_ == nullptr) return state;
    for (std::size_t l = 0; l < state.layers.size(); ++l) {
      auto value = learned_->layers[l];
      if (learned_->mask.defined())  // the gradient of what is fixed is zero
        value = value * learned_->mask + (value * (1 - learned_->mask)).detach();
      auto shape = value.sizes().vec();
      shape.insert(shape.begin(), count);
      state.layers[l][learned_->row] = value.unsqueeze(0).expand(shape).contiguous();
    }
    return state;
  }

  // The sum of the losses; with scale, gradients.
  double run(const Rows& rows, double scale) {
    const auto T = rows.inputs.size(1);
    const auto segment = config_.segment_tokens > 0 ? config_.segment_tokens : T;
    const bool full = config_.bptt == Bptt::kFull && segment < T && scale != 0;
    auto state = start(rows.inputs.size(0));
    state.differentiable = full;
    double sum = 0;
    at::Tensor total;
    for (std::int64_t begin = 0; begin < T; begin += segment) {
      const auto length = std::min(segment, T - begin);
      const auto part = [&](const at::Tensor& all) { return all.narrow(1, begin, length); };
      const auto loss = part_loss(part(rows.inputs), part(rows.targets), part(rows.weights), state);
      sum += loss.value.item<double>();
      if (scale == 0) continue;
      total = total.defined() ? total + loss.total : loss.total;
      if (full && begin + length < T) continue;
      (total * scale).backward();
      total = at::Tensor();
    }
    return sum;
  }

  // Rows of one length that all count, from an empty state: the mean, and the gradient of `share`
  // times it.
  bool is_plain(const TokenBatch& batch) const {
    return batch.weights.empty() && config_.segment_tokens == 0 && learned_ == nullptr &&
           std::ranges::all_of(batch.lengths,
                               [&](auto length) { return length == batch.lengths.front(); });
  }
  double run_plain(const Rows& rows, double share) {
    auto state = model_->start(rows.inputs.size(0));
    const auto scores = logits(rows.inputs, state);
    const auto loss = at::cross_entropy_loss(scores, rows.targets.reshape({-1}));
    if (share == 0) return loss.item<double>();
    auto total = loss * share;
    if (config_.l2wrap > 0) {
      const auto largest = std::get<0>(scores.max(/*dim=*/1));
      total = total + (0.5 * config_.l2wrap * share) * largest.square().mean();
    }
    total.backward();
    return loss.item<double>();
  }

  // (R T, V), float32 or float64.
  at::Tensor logits(const at::Tensor& inputs, ModelState& state) {
    std::optional<MixedPrecision> mixed;
    if (uses_bfloat16(enum_name(config_.precision), device_, "train.precision"))
      mixed.emplace(device_);
    const ReferenceOperators reference(config_.operators == Operators::kReference);
    auto scores = model_->forward(inputs, state).flatten(0, 1);
    return scores.scalar_type() == torch::kFloat64 ? scores : scores.to(torch::kFloat32);
  }

  struct PartLoss {
    at::Tensor value, total;  // without and with the pull on the largest logits
  };
  PartLoss part_loss(const at::Tensor& inputs, const at::Tensor& targets, const at::Tensor& weights,
                     ModelState& state) {
    const auto scores = logits(inputs, state);
    const auto own = weights.reshape({-1}).to(scores.scalar_type());
    const auto each =
        at::cross_entropy_loss(scores, targets.reshape({-1}), {}, at::Reduction::None);
    PartLoss loss;
    loss.value = (each * own).sum();
    loss.total = loss.value;
    if (config_.l2wrap > 0) {
      const auto largest = std::get<0>(scores.max(/*dim=*/1));
      loss.total = loss.total + 0.5 * config_.l2wrap * (largest.square() * own).sum();
    }
    return loss;
  }

  Rwkv model_;
  TrainingConfig config_;
  std::shared_ptr<LearnedState> learned_;
  std::vector<Merged> merged_;
  c10::Device device_ = c10::kCPU;
};

}  // namespace

std::unique_ptr<Computation> module_computation(Rwkv model, const TrainingConfig& config,
                                                const Additions& additions) {
  return std::make_unique<Modules>(std::move(model), config, additions);
}

}  // namespace rwkvx
