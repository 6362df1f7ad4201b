#include "model/decoding_pass.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>

#include "rwkvx/base/error.h"
#include "rwkvx/base/log.h"

namespace rwkvx {
namespace {

// Steps between two stacks, in each direction, before the next one is recorded: recording takes as
// long as some steps.
constexpr int kStepsBeforeGraph = 4;

}  // namespace

struct DecodingPass::Slot {
  Slot(const ModelState& like, c10::Device device)
      : state(std::make_shared<ModelState>(zeros_like(like))), graph(device, kStepsBeforeGraph) {}
  std::shared_ptr<ModelState> state;
  BatchGraph graph;
};

DecodingPass::DecodingPass(Rwkv model, const PassPlace& place)
    : model_(std::move(model)), place_(place) {}
DecodingPass::~DecodingPass() = default;

// Two slots take turns, unless somebody else holds what one of them has written.
DecodingPass::Slot& DecodingPass::free_slot(const Stack& before) {
  if (!slots_.empty() && slots_.front()->state->t.size(0) != before->t.size(0)) slots_.clear();
  for (auto& slot : slots_)
    if (slot->state.use_count() == 1) return *slot;
  if (slots_.size() == 2)
    slots_.erase(std::ranges::find_if(
        slots_, [&](const auto& slot) { return slot->state.get() != before.get(); }));
  return *slots_.emplace_back(std::make_unique<Slot>(*before, place_.device));
}

std::unique_ptr<TrainingPass> DecodingPass::pass_for(std::int64_t sequences, std::int64_t tokens) {
  TrainingPassOptions options;
  options.gradients = false;
  options.sequences = sequences;
  options.place = place_;
  options.keep_copy = [](const at::Tensor&, const at::Tensor&) { return true; };  // nobody writes
  options.integers = &model_->integers;
  return std::make_unique<TrainingPass>(*model_, sequences * tokens, tokens, options);
}

at::Tensor DecodingPass::features(std::span<const TokenId> tokens, ModelState& state) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  if (count > longest_) {
    prompts_.reset();
    longest_ = static_cast<std::int64_t>(std::bit_ceil(tokens.size()));
    prompts_ = pass_for(1, longest_);
  }
  const std::vector<std::int64_t> ids(tokens.begin(), tokens.end());
  auto after = zeros_like(state);
  after.t.copy_(state.t + count);
  TrainingBatch batch;
  batch.inputs = ids.data();
  batch.sequences = {{0, count, state.t.item<std::int64_t>()}};
  batch.states.before = &state, batch.states.after = &after;
  auto features = prompts_->features(batch);
  state = std::move(after);
  return features;
}

at::Tensor DecodingPass::step(std::span<const TokenId> tokens, const Stack& before, Stack& after) {
  const auto rows = static_cast<std::int64_t>(tokens.size());
  if (rows > most_) {
    slots_.clear();  // whose graphs are those of the pass that was
    pass_ = pass_for(rows, 1);
    most_ = rows;
  }
  auto& slot = free_slot(before);
  const std::vector<std::int64_t> ids(tokens.begin(), tokens.end());
  TrainingBatch batch;
  batch.inputs = ids.data();
  const auto* positions = before->t.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < rows; ++i) batch.sequences.push_back({i, 1, positions[i]});
  batch.states = {before.get(), slot.state.get(), nullptr, nullptr};
  at::Tensor logits;
  try {
    logits = pass_->logits(batch, graphs_ ? &slot.graph : nullptr);
  } catch (const Error& error) {
    graphs_ = false;
    log_warning(std::string(error.what()) + "; going on kernel by kernel");
    logits = pass_->logits(batch);
  }
  slot.state->t.copy_(before->t + 1);
  after = slot.state;
  return logits;
}

std::int64_t DecodingPass::graphs_started() const {
  std::int64_t all = 0;
  for (const auto& slot : slots_) all += slot->graph.started();
  return all;
}

}  // namespace rwkvx
