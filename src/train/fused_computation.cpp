#include <torch/types.h>

#include <algorithm>

#include "rwkvx/base/splitmix64.h"
#include "rwkvx/model/training_pass.h"
#include "train/computation.h"

namespace rwkvx {
namespace {

// Sequences of a batch, or pieces of them, as the fused pass takes them.
struct PassPart {
  std::vector<Piece> pieces;
  TrainingBatch batch;
  // Where the pieces do not lie one after the other in the batch.
  std::vector<std::int64_t> inputs, targets;
  std::vector<float> weights;
};

// The states of some of the sequences, and back.
ModelState pick(const ModelState& all, const at::Tensor& which) {
  ModelState some;
  for (const auto& layer : all.layers) {
    auto& own = some.layers.emplace_back();
    for (const auto& tensor : layer) own.push_back(tensor.index_select(0, which));
  }
  return some;
}
void put(ModelState& all, const at::Tensor& which, const ModelState& some) {
  for (std::size_t l = 0; l < all.layers.size(); ++l)
    for (std::size_t i = 0; i < all.layers[l].size(); ++i)
      all.layers[l][i].index_copy_(0, which, some.layers[l][i]);
}

class Fused : public Computation {
 public:
  Fused(Rwkv model, const TrainingConfig& config, const PassLimits& limits,
        const Additions& additions, const KeepCopy& keep_copy)
      : model_(std::move(model)),
        config_(config),
        learned_(additions.state),
        device_(limits.place.device) {
    longest_ = config.segment_tokens > 0 ? std::min(config.segment_tokens, limits.longest)
                                         : limits.longest;
    // As many sequences, or pieces, at a time as a batch has rows.
    tokens_ = std::min(limits.tokens, longest_ * config.batch_size);
    most_ = limits.sequences;
    TrainingPassOptions options;
    options.checkpoint_blocks = config.grad_checkpoint == GradCheckpoint::kBlock;
    options.l2wrap = config.l2wrap;
    options.sequences = most_;
    options.place = limits.place;
    options.keep_copy = keep_copy;
    options.graph = config.cuda_graph;
    bytes_ = TrainingPass::buffer_bytes(model_->config(), tokens_, longest_, options);
    pass_ = std::make_unique<TrainingPass>(*model_, tokens_, longest_, options);
    const auto parameters = model_->named_parameters();
    for (const auto& [name, adapter] : additions.adapters)
      pass_->add_adapter(parameters[name], adapter);
  }

  double buffer_bytes() const override { return bytes_; }

  LossSum gradients(const TokenBatch& batch, double share, double weight,
                    const Complete& complete) override {
    const double scale = share / weight;
    auto parts = parts_of(batch, config_.dropout);
    if (carries(parts))
      return (config_.bptt == Bptt::kFull ? through_time(batch, parts, scale, complete)
                                          : forwards(batch, parts, scale, complete)) /
             weight;
    LossSum sum;
    for (auto& part : parts)
      sum += pass_->loss_and_gradients(part.batch, scale,
                                       &part == &parts.back() ? complete : Complete());
    return sum / weight;
  }

  LossSum loss(const TokenBatch& batch) override {
    auto parts = parts_of(batch, 0);
    const bool carried = carries(parts);
    auto states = carried ? start(batch) : ModelState();
    LossSum sum;
    for (auto& part : parts) {
      if (!carried) {
        sum += pass_->loss(part.batch);
        continue;
      }
      const auto which = sequences_of(part);
      const auto before = pick(states, which);
      auto after = zeros_like(before);
      part.batch.states = {&before, &after, nullptr, nullptr};
      sum += pass_->loss(part.batch);
      put(states, which, after);
    }
    return sum / batch.weight;
  }

 private:
  bool carries(const std::vector<PassPart>& parts) const {
    if (learned_ != nullptr) return true;
    return std::ranges::any_of(parts, [](const PassPart& part) {
      return std::ranges::any_of(part.pieces,
                                 [](const Piece& piece) { return piece.position > 0; });
    });
  }

  std::vector<PassPart> parts_of(const TokenBatch& batch, double dropout) const {
    std::vector<PassPart> parts;
    for (auto& pieces : cut_into_groups(batch.lengths, longest_, tokens_, most_)) {
      auto& part = parts.emplace_back();
      part.pieces = std::move(pieces);
    }
    for (std::size_t i = 0; i < parts.size(); ++i) {
      fill(batch, parts[i]);
      parts[i].batch.dropout = dropout;
      parts[i].batch.first_token = batch.first_token;
      parts[i].batch.dropout_key =
          splitmix64(splitmix64(static_cast<std::uint64_t>(config_.seed),
                                static_cast<std::uint64_t>(batch.position)),
                     i);
    }
    return parts;
  }

  static void fill(const TokenBatch& batch, PassPart& part) {
    std::int64_t begin = 0;
    bool contiguous = true;
    for (const auto& piece : part.pieces) {
      contiguous = contiguous && piece.begin == part.pieces.front().begin + begin;
      part.batch.sequences.push_back({begin, piece.tokens, piece.position});
      begin += piece.tokens;
    }
    const auto from = part.pieces.front().begin;
    part.batch.inputs = batch.inputs.data() + from;
    part.batch.targets = batch.targets.data() + from;
    if (!batch.weights.empty()) part.batch.weights = batch.weights.data() + from;
    if (contiguous) return;
    const auto gather = [&](const auto& all, auto& some) {
      for (const auto& piece : part.pieces)
        some.insert(some.end(), all.begin() + piece.begin,
                    all.begin() + piece.begin + piece.tokens);
    };
    gather(batch.inputs, part.inputs);
    gather(batch.targets, part.targets);
    part.batch.inputs = part.inputs.data();
    part.batch.targets = part.targets.data();
    if (batch.weights.empty()) return;
    gather(batch.weights, part.weights);
    part.batch.weights = part.weights.data();
  }

  at::Tensor indices(const std::vector<std::int64_t>& which) const {
    return torch::tensor(which, torch::kInt64).to(device_);
  }
  at::Tensor sequences_of(const PassPart& part) const {
    std::vector<std::int64_t> which;
    for (const auto& piece : part.pieces) which.push_back(piece.sequence);
    return indices(which);
  }

  // The state before the first token of each sequence.
  ModelState start(const TokenBatch& batch) const {
    const torch::NoGradGuard no_grad;
    auto states = model_->start(static_cast<std::int64_t>(batch.lengths.size()));
    if (learned_ != nullptr)
      for (std::size_t l = 0; l < states.layers.size(); ++l)
        states.layers[l][learned_->row].copy_(learned_->layers[l].unsqueeze(0));
    return states;
  }

  // Adds the gradients of the states before the first tokens to that of the learned one.
  void add_learned(const ModelState& grads, const at::Tensor& which) const {
    if (learned_ == nullptr || which.numel() == 0) return;
    const torch::NoGradGuard no_grad;
    for (std::size_t l = 0; l < grads.layers.size(); ++l) {
      auto sum = grads.layers[l][learned_->row].index_select(0, which).sum(0);
      if (learned_->mask.defined()) sum = sum * learned_->mask;
      learned_->layers[l].mutable_grad().add_(sum);
    }
  }

  // Gradients stop where a sequence was cut.
  LossSum forwards(const TokenBatch& batch, std::vector<PassPart>& parts, double scale,
                   const Complete& complete) {
    auto states = start(batch);
    LossSum sum;
    for (auto& part : parts) {
      const auto which = sequences_of(part);
      const auto before = pick(states, which);
      auto after = zeros_like(before),
           grad_before = learned_ != nullptr ? zeros_like(before) : ModelState();
      part.batch.states = {&before, &after, nullptr, learned_ != nullptr ? &grad_before : nullptr};
      sum += pass_->loss_and_gradients(part.batch, scale,
                                       &part == &parts.back() ? complete : Complete());
      put(states, which, after);
      std::vector<std::int64_t> first;
      for (std::size_t i = 0; i < part.pieces.size(); ++i)
        if (part.pieces[i].position == 0) first.push_back(static_cast<std::int64_t>(i));
      add_learned(grad_before, indices(first));
    }
    return sum;
  }

  // Gradients of the whole sequences: the states first, then from the last part to the first, each
  // of which is run again.
  LossSum through_time(const TokenBatch& batch, std::vector<PassPart>& parts, double scale,
                       const Complete& complete) {
    auto states = start(batch);
    std::vector<ModelState> before;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const auto which = sequences_of(parts[i]);
      before.push_back(pick(states, which));
      if (i + 1 == parts.size()) break;
      auto after = zeros_like(before.back());
      parts[i].batch.states = {&before.back(), &after, nullptr, nullptr};
      pass_->advance(parts[i].batch);
      put(states, which, after);
    }
    auto grads = zeros_like(states);
    LossSum sum;
    for (std::size_t i = parts.size(); i-- > 0;) {
      const auto which = sequences_of(parts[i]);
      auto after = zeros_like(before[i]), grad_before = zeros_like(before[i]);
      const auto grad_after = pick(grads, which);
      parts[i].batch.states = {&before[i], &after, &grad_after, &grad_before};
      sum += pass_->loss_and_gradients(parts[i].batch, scale, i == 0 ? complete : Complete());
      put(grads, which, grad_before);
      before.pop_back();
    }
    add_learned(grads, torch::arange(grads.layers[0][0].size(0), torch::kInt64));
    return sum;
  }

  Rwkv model_;
  TrainingConfig config_;
  std::shared_ptr<LearnedState> learned_;
  c10::Device device_;
  std::int64_t tokens_ = 0, longest_ = 0, most_ = 0;
  double bytes_ = 0;
  std::unique_ptr<TrainingPass> pass_;
};

}  // namespace

std::vector<std::vector<Piece>> cut_into_groups(const std::vector<std::int64_t>& lengths,
                                                std::int64_t segment, std::int64_t tokens,
                                                std::int64_t most) {
  std::vector<std::vector<Piece>> groups;
  bool left = true;
  for (std::int64_t position = 0; left; position += segment) {
    left = false;
    bool open = false;  // whether the last group takes pieces from this position on
    std::int64_t used = 0, begin = 0;
    for (std::size_t i = 0; i < lengths.size(); begin += lengths[i], ++i) {
      if (position >= lengths[i]) continue;
      const auto count =
          segment > 0 ? std::min(segment, lengths[i] - position) : lengths[i] - position;
      left = left || (segment > 0 && position + count < lengths[i]);
      const bool full =
          open && (used + count > tokens ||
                   (most > 0 && static_cast<std::int64_t>(groups.back().size()) >= most));
      if (!open || full) {
        groups.emplace_back();
        open = true;
        used = 0;
      }
      groups.back().push_back({static_cast<std::int64_t>(i), begin + position, count, position});
      used += count;
    }
  }
  return groups;
}

std::unique_ptr<Computation> fused_computation(Rwkv model, const TrainingConfig& config,
                                               const PassLimits& limits, const Additions& additions,
                                               const KeepCopy& keep_copy) {
  return std::make_unique<Fused>(std::move(model), config, limits, additions, keep_copy);
}

}  // namespace rwkvx
