#include "train/tuning.h"

#include <fnmatch.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "rwkvx/adapters/apply.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/splitmix64.h"
#include "rwkvx/cores/core.h"
#include "rwkvx/cores/state.h"

namespace rwkvx {
namespace {

constexpr char kWkvRow[] = "att.wkv";
// Of RWKV-4's learned state, beside 1 for a token of key 0.
constexpr double kLearnedWeight = 1e-4;

// The random numbers of a tensor, which depend on the seed and its name alone.
std::uint64_t stream_of(std::uint64_t seed, const std::string& name) {
  for (const unsigned char c : name) seed = splitmix64(seed, c);
  return seed;
}
// Uniform in [-1, 1).
double drawn(std::uint64_t stream, std::uint64_t i) {
  return static_cast<double>(splitmix64(stream, i) >> 11) * 0x1p-52 - 1;
}

// Of a linear layer's matrix within the blocks, or the head.
bool takes_lora(const ParameterRow& row) {
  return row.matrix && !row.transposed && row.name != "emb.weight";
}

void refuse_pattern(const char* setting, const std::string& pattern, const std::string& wanted) {
  throw ConfigError(setting, "\"" + pattern + "\" means no " + wanted +
                                 " of this model; `rwkvx train --explain` lists them all");
}

AdapterTensor stored(const std::string& name, const at::Tensor& tensor) {
  const auto flat = tensor.detach().to(torch::kCPU).contiguous();
  const float* values = flat.const_data_ptr<float>();
  return {name, flat.sizes().vec(), {values, values + flat.numel()}};
}

}  // namespace

bool means_parameter(const std::string& pattern, const ParameterRow& row) {
  if (pattern == "core") return !row.of_shift();
  if (pattern.find('*') != std::string::npos)
    return ::fnmatch(pattern.c_str(), row.name.c_str(), 0) == 0;
  return ("." + row.name + ".").find("." + pattern + ".") != std::string::npos;
}

LearnedState learned_state(const Rwkv& model) {
  LearnedState state;
  const auto& config = model->config();
  const auto rows = core_of(config).state(config);
  const auto row = state_index(rows, kWkvRow);
  if (row < 0)
    throw ConfigError("train.adapter", "the core " + config.core + " has no state \"" + kWkvRow +
                                           "\" that could be learned");
  state.row = static_cast<std::size_t>(row);
  const auto options = model->head.options().requires_grad(false);
  const auto shape = rows[state.row].shape;
  for (std::int64_t layer = 0; layer < config.n_layer; ++layer)
    state.layers.push_back(torch::zeros(shape, options).set_requires_grad(true));
  // A state of three rows is RWKV-4's p, q, o: the weighted sum p is learned. Sums of no weight at
  // all are an empty state, which has no gradient.
  if (shape.size() == 2 && shape[0] == 3) {
    const torch::NoGradGuard no_grad;
    state.mask = torch::zeros(shape, options);
    state.mask[0].fill_(1);
    for (auto& layer : state.layers) layer[1].fill_(kLearnedWeight);
  }
  return state;
}

Tuning::Tuning(Rwkv& model, const TrainingConfig& config)
    : config_(config), rows_(describe_parameters(model->config())) {
  for (const auto& pattern : config.freeze)
    if (std::ranges::none_of(rows_, [&](const auto& row) { return means_parameter(pattern, row); }))
      refuse_pattern("train.freeze", pattern, "parameter");
  switch (config.adapter) {
    case TrainAdapter::kNone:
      break;
    case TrainAdapter::kLora:
      begin_lora(model);
      break;
    case TrainAdapter::kState:
      additions_.state = std::make_shared<LearnedState>(learned_state(model));
      break;
    case TrainAdapter::kShift:
      if (!model->config().shift.enabled())
        throw ConfigError("train.adapter",
                          "shift needs a model with the gated positional shift; "
                          "model.shift.kind is none");
      break;
  }
  if (config.adapter == TrainAdapter::kNone && parameters() == 0)
    throw ConfigError("train.freeze", "leaves nothing to train");
}

bool Tuning::trains(const ParameterRow& row) const {
  switch (config_.adapter) {
    case TrainAdapter::kNone:
      return std::ranges::none_of(
          config_.freeze, [&](const auto& pattern) { return means_parameter(pattern, row); });
    case TrainAdapter::kShift:
      return row.of_shift();
    default:
      return false;
  }
}

void Tuning::begin_lora(Rwkv& model) {
  const torch::NoGradGuard no_grad;
  const auto parameters = model->named_parameters();
  std::vector<bool> met(config_.lora_matrices.size(), false);
  for (const auto& row : rows_) {
    if (!takes_lora(row)) continue;
    bool wanted = false;
    for (std::size_t i = 0; i < met.size(); ++i)
      if (means_parameter(config_.lora_matrices[i], row)) wanted = met[i] = true;
    if (!wanted) continue;
    // As peft and RWKV-PEFT begin: A as a linear layer's matrix, B zero, so that nothing is added.
    const auto& matrix = parameters[row.name];
    const double range = 1 / std::sqrt(static_cast<double>(row.inputs()));
    auto a = torch::empty({config_.lora_rank, row.inputs()});
    float* values = a.mutable_data_ptr<float>();
    const auto stream = stream_of(static_cast<std::uint64_t>(config_.seed), row.name);
    for (std::int64_t i = 0; i < a.numel(); ++i)
      values[i] = static_cast<float>(range * drawn(stream, static_cast<std::uint64_t>(i)));
    additions_.adapters.emplace_back(
        row.name, PassAdapter{a.to(matrix.device()),
                              torch::zeros({row.outputs(), config_.lora_rank}, matrix.options()),
                              static_cast<float>(config_.lora_alpha /
                                                 static_cast<double>(config_.lora_rank))});
    matrices_.emplace_back(matrix, at::Tensor());
  }
  for (std::size_t i = 0; i < met.size(); ++i)
    if (!met[i]) refuse_pattern("train.lora_matrices", config_.lora_matrices[i], "matrix");
}

std::vector<ExtraParameter> Tuning::extra() const {
  std::vector<ExtraParameter> all;
  for (const auto& [name, adapter] : additions_.adapters) {
    all.push_back({lora_a_name(name), adapter.a});
    all.push_back({lora_b_name(name), adapter.b});
  }
  if (additions_.state != nullptr)
    for (std::size_t l = 0; l < additions_.state->layers.size(); ++l)
      all.push_back(
          {block_prefix(static_cast<std::int64_t>(l)) + kWkvRow, additions_.state->layers[l]});
  return all;
}

std::int64_t Tuning::parameters() const {
  std::int64_t count = 0;
  for (const auto& row : rows_)
    if (trains(row)) count += row.count();
  for (const auto& [name, adapter] : additions_.adapters)
    count += adapter.a.numel() + adapter.b.numel();
  if (additions_.state != nullptr)
    for (const auto& layer : additions_.state->layers)
      count += additions_.state->mask.defined() ? layer.numel() / 3 : layer.numel();
  return count;
}

Adapter Tuning::adapter(const Rwkv& model, const std::string& base_hash) const {
  Adapter result;
  result.base_hash = base_hash;
  switch (config_.adapter) {
    case TrainAdapter::kNone:
      throw ConfigError("train.adapter", "is none, so there is no adapter to write");
    case TrainAdapter::kLora:
      result.kind = AdapterKind::kLora;
      result.rank = config_.lora_rank;
      result.alpha = config_.lora_alpha;
      for (const auto& [name, adapter] : additions_.adapters) {
        result.tensors.push_back(stored(lora_a_name(name), adapter.a));
        result.tensors.push_back(stored(lora_b_name(name), adapter.b));
      }
      break;
    case TrainAdapter::kState:
      result.kind = AdapterKind::kState;
      for (std::size_t l = 0; l < additions_.state->layers.size(); ++l)
        result.tensors.push_back(stored(block_prefix(static_cast<std::int64_t>(l)) + kWkvRow,
                                        additions_.state->layers[l]));
      break;
    case TrainAdapter::kShift:
      result.kind = AdapterKind::kShift;
      result.shift = model->config().shift;
      for (const auto& row : rows_)
        if (row.of_shift())
          result.tensors.push_back(stored(row.name, model->named_parameters()[row.name]));
      break;
  }
  return result;
}

void Tuning::merge() {
  const torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < matrices_.size(); ++i) {
    auto& [matrix, before] = matrices_[i];
    const auto& [name, adapter] = additions_.adapters[i];
    before = matrix.detach().clone();
    auto weight = stored(name, matrix);
    add_lora(stored(lora_a_name(name), adapter.a), stored(lora_b_name(name), adapter.b),
             config_.lora_alpha / static_cast<double>(config_.lora_rank), weight);
    matrix.copy_(torch::from_blob(weight.values.data(), weight.shape));
  }
}

void Tuning::split() {
  const torch::NoGradGuard no_grad;
  for (auto& [matrix, before] : matrices_) {
    if (before.defined()) matrix.copy_(before);
    before = at::Tensor();
  }
}

void Tuning::while_merged(const std::function<void()>& use) {
  merge();
  try {
    use();
  } catch (...) {
    split();
    throw;
  }
  split();
}

}  // namespace rwkvx
