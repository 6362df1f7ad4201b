#include "rwkvx/model/rwkv.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/types.h>

#include "rwkvx/base/splitmix64.h"
#include "rwkvx/cores/core.h"
#include "rwkvx/modules/core_modules.h"
#include "rwkvx/modules/initial_values.h"
#include "rwkvx/modules/shift.h"

namespace rwkvx {
namespace {

// A well-mixed 64-bit seed from the run's seed and a parameter's name (FNV-1a, then splitmix64).
uint64_t stream_seed(uint64_t seed, const std::string& name) {
  uint64_t hash = 1469598103934665603u;
  for (const unsigned char c : name) hash = (hash ^ c) * 1099511628211u;
  return splitmix64_finalize(hash ^ (seed + kSplitMix64Step));
}

}  // namespace

RwkvImpl::RwkvImpl(const ModelConfig& config) : config_(config) {
  TORCH_CHECK(config.vocab_size > 0, "Rwkv: vocab_size must be set");
  const auto& modules = modules_of(config);
  auto list = register_module("blocks", torch::nn::ModuleList());
  for (int64_t layer = 0; layer < config_.n_layer; ++layer) {
    blocks_.push_back(modules.block(config_, layer));
    list->push_back(blocks_.back());
  }
  // What is not the blocks' own: embedding, its norm, the norm before the head, head.
  std::vector<ParameterRow> rows;
  for (auto& row : describe_parameters(config_))
    if (!row.name.starts_with("blocks.") || row.name.starts_with("blocks.0.ln0."))
      rows.push_back(std::move(row));
  const auto tensors = register_rows(*this, rows);
  emb = tensors.at(0), ln0 = {tensors.at(1), tensors.at(2)};
  ln_out = {tensors.at(3), tensors.at(4)}, head = tensors.at(5);
}

at::Tensor RwkvImpl::features(const at::Tensor& tokens, ModelState& state,
                              const std::function<void(const SiteView&)>& observer) {
  TORCH_CHECK(tokens.dim() == 2 && tokens.scalar_type() == at::kLong && tokens.size(1) > 0,
              "Rwkv: tokens must be (B, T) int64 with T > 0, got ", tokens.sizes());
  TORCH_CHECK(state.t.defined() && state.t.size(0) == tokens.size(0), "Rwkv: tokens are ",
              tokens.sizes(), " (B, T), so the state must be of B sequences");
  auto x = torch::embedding(emb, tokens);  // (B, T, C)
  at::Tensor handed_on;
  BlockContext context{
      shift_positions(config_, state.t, tokens.size(1), x.options()), {}, &handed_on};
  if (dropout > 0 && at::GradMode::is_enabled()) {
    context.dropout = dropout;
    x = torch::dropout(x, dropout, /*train=*/true);
  }
  context.integers = &integers;
  x = layer_norm(x, ln0);
  for (int64_t layer = 0; layer < config_.n_layer; ++layer) {
    if (observer)
      context.observer = [&](SiteView view) {
        view.name = block_prefix(layer) + view.name;
        observer(view);
      };
    x = block(layer).forward(x, context, state.layers[static_cast<size_t>(layer)]);
  }
  if (!state.differentiable)
    for (auto& layer : state.layers)
      for (auto& tensor : layer) tensor = tensor.detach();
  state.t = state.t + tokens.size(1);
  return layer_norm(x, ln_out);  // (B, T, C)
}

at::Tensor RwkvImpl::logits(const at::Tensor& features) const {
  return linear(features, head, &integers);
}

at::Tensor RwkvImpl::forward(const at::Tensor& tokens, ModelState& state) {
  return logits(features(tokens, state));  // (B, T, V)
}

ModelState RwkvImpl::start(int64_t B) const {
  const auto options = ln_out.weight.options().requires_grad(false);  // not a matrix's
  const auto rows = core_of(config_).state(config_);
  ModelState state;
  state.t = torch::zeros({B}, torch::kInt64);
  for (int64_t layer = 0; layer < config_.n_layer; ++layer) {
    LayerState one;
    for (const auto& row : rows) {
      auto values = torch::empty(row.shape);
      row.fill(values.mutable_data_ptr<float>());
      auto shape = row.shape;
      shape.insert(shape.begin(), B);
      one.push_back(values.unsqueeze(0).expand(shape).to(options).contiguous());
    }
    state.layers.push_back(std::move(one));
  }
  return state;
}

void RwkvImpl::initialize(uint64_t seed, double embedding_range) {
  const torch::NoGradGuard no_grad;
  auto parameters = named_parameters();
  for (const auto& row : describe_parameters(config_)) {
    const auto generator = at::make_generator<at::CPUGeneratorImpl>(stream_seed(seed, row.name));
    auto& tensor = parameters[row.name];
    tensor.copy_(initial_value(row, generator, embedding_range));
  }
}

}  // namespace rwkvx
