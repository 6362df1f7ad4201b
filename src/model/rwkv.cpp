#include "rwkvx/model/rwkv.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <cmath>
#include <unordered_map>

#include "rwkvx/base/error.h"
#include "rwkvx/base/splitmix64.h"
#include "rwkvx/model/parameters.h"
#include "rwkvx/ops/wkv.h"

namespace rwkvx {
namespace {

torch::nn::LayerNorm make_norm(int64_t C) {
  return torch::nn::LayerNorm(torch::nn::LayerNormOptions({C}).eps(1e-5));
}

// A well-mixed 64-bit seed from the run's seed and a parameter's name (FNV-1a, then splitmix64).
uint64_t stream_seed(uint64_t seed, const std::string& name) {
  uint64_t hash = 1469598103934665603u;
  for (const unsigned char c : name) hash = (hash ^ c) * 1099511628211u;
  return splitmix64_finalize(hash ^ (seed + kSplitMix64Step));
}

// Rows or columns, whichever are fewer, orthonormal, times gain: (rows, columns).
at::Tensor orthogonal(int64_t rows, int64_t columns, double gain, const at::Generator& generator) {
  const bool wide = rows < columns;
  auto noise = at::empty({wide ? columns : rows, wide ? rows : columns}, at::kFloat);
  noise.normal_(0, 1, generator);
  auto [q, r] = at::linalg_qr(noise);
  q = q * at::sign(at::diagonal(r));  // makes the distribution uniform over orthogonal matrices
  return (wide ? q.t() : q) * gain;
}

at::Tensor initial_value(const ParameterInfo& row, double embedding_range,
                         const at::Generator& generator) {
  const auto channels = [&] { return at::arange(row.shape.back(), at::kDouble); };
  const double last = static_cast<double>(row.shape.back()) - 1;
  switch (row.init) {
    case Init::kConstant:
      return at::full(row.shape, row.value);
    case Init::kUniform:
      return at::empty(row.shape, at::kFloat)
          .uniform_(-embedding_range, embedding_range, generator);
    case Init::kOrthogonal:
      return orthogonal(row.shape[0], row.shape[1], row.value, generator);
    case Init::kNormal:
      return at::empty(row.shape, at::kFloat).normal_(0, row.value, generator);
    case Init::kDecay:
      return at::pow(channels() / std::max(last, 1.0), row.power) * 8 - 5;
    case Init::kBonus:
      return std::log(0.3) + 0.5 * (at::remainder(channels() + 1, 3) - 1);
    case Init::kMix:
      return at::pow(channels() / (last + 1), row.power) + row.value;
  }
  throw Error(row.name, "has no initial value");
}

}  // namespace

BlockImpl::BlockImpl(const ModelConfig& config, int64_t layer) : config_(config), layer_(layer) {
  reset();
}

void BlockImpl::reset() {
  if (layer_ == 0) ln0 = register_module("ln0", make_norm(config_.n_embd));
  ln1 = register_module("ln1", make_norm(config_.n_embd));
  ln2 = register_module("ln2", make_norm(config_.n_embd));
  att = register_module("att", TimeMix(config_));
  ffn = register_module("ffn", ChannelMix(config_));
}

at::Tensor BlockImpl::forward(at::Tensor x, const at::Tensor& phi, LayerState& state) {
  if (!ln0.is_empty()) x = ln0(x);
  x = x + att->forward(ln1(x), phi, state);     // (B, T, C)
  return x + ffn->forward(ln2(x), phi, state);  // (B, T, C)
}

RwkvImpl::RwkvImpl(const ModelConfig& config) : config_(config) {
  TORCH_CHECK(config.vocab_size > 0, "Rwkv: vocab_size must be set");
  reset();
}

void RwkvImpl::reset() {
  const int64_t C = config_.n_embd, V = config_.vocab_size;
  // Given weights, the module draws none: initialise() or a checkpoint sets them.
  emb = register_module(
      "emb", torch::nn::Embedding(torch::nn::EmbeddingOptions(V, C)._weight(torch::zeros({V, C}))));
  blocks = register_module("blocks", torch::nn::ModuleList());
  for (int64_t layer = 0; layer < config_.n_layer; ++layer)
    blocks->push_back(Block(config_, layer));
  ln_out = register_module("ln_out", make_norm(C));
  head = register_module("head", torch::nn::Linear(torch::nn::LinearOptions(C, V).bias(false)));
}

BlockImpl& RwkvImpl::block(int64_t layer) const {
  return *blocks->ptr<BlockImpl>(static_cast<size_t>(layer));
}

at::Tensor RwkvImpl::features(const at::Tensor& tokens, ModelState& state) {
  TORCH_CHECK(tokens.dim() == 2 && tokens.scalar_type() == at::kLong && tokens.size(1) > 0,
              "Rwkv: tokens must be (B, T) int64 with T > 0, got ", tokens.sizes());
  TORCH_CHECK(state.t.defined() && state.t.size(0) == tokens.size(0), "Rwkv: tokens are ",
              tokens.sizes(), " (B, T), so the state must be of B sequences");
  const auto& shift = config_.shift;
  auto x = emb(tokens);  // (B, T, C)
  at::Tensor phi;        // (B or 1, T, F)
  if (shift.enabled() && shift.features() > 0)
    phi = position_features(shift.pos, state.t, tokens.size(1)).to(x.dtype()).to(x.device());
  for (int64_t layer = 0; layer < config_.n_layer; ++layer)
    x = block(layer).forward(x, phi, state.layers[static_cast<size_t>(layer)]);
  state.t = state.t + tokens.size(1);
  return ln_out(x);  // (B, T, C)
}

at::Tensor RwkvImpl::forward(const at::Tensor& tokens, ModelState& state) {
  return head(features(tokens, state));  // (B, T, V)
}

ModelState RwkvImpl::start(int64_t B) const {
  const int64_t C = config_.n_embd, A = config_.att_channels(), H = config_.shift.history();
  const auto options = head->weight.options().requires_grad(false);
  ModelState state;
  state.t = torch::zeros({B}, torch::kInt64);
  for (int64_t layer = 0; layer < config_.n_layer; ++layer) {
    LayerState one;
    one.att_x = torch::zeros({B, C}, options);
    one.ffn_x = torch::zeros({B, C}, options);
    one.wkv = wkv_start(B, A, options);
    if (config_.shift.at_att()) one.att_ring = torch::zeros({B, H, C}, options);
    if (config_.shift.at_ffn()) one.ffn_ring = torch::zeros({B, H, C}, options);
    state.layers.push_back(std::move(one));
  }
  return state;
}

void RwkvImpl::initialise(uint64_t seed, double embedding_range) {
  const torch::NoGradGuard no_grad;
  auto parameters = named_parameters();
  for (const auto& row : describe_parameters(config_)) {
    const auto generator = at::make_generator<at::CPUGeneratorImpl>(stream_seed(seed, row.name));
    auto& tensor = parameters[row.name];
    tensor.copy_(initial_value(row, embedding_range, generator).view(row.shape));
  }
}

}  // namespace rwkvx
