#include "rwkvx/model/module_model.h"

#include <ATen/Parallel.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <torch/types.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "model/decoding_pass.h"
#include "model/draw_on_device.h"
#include "rwkvx/base/threads.h"
#include "rwkvx/cores/parameters.h"
#include "rwkvx/cores/weight_reader.h"
#include "rwkvx/engine/engine.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/modules/device.h"
#include "rwkvx/ops/cuda/call.h"
#include "rwkvx/ops/integer_matrix.h"
#include "rwkvx/ops/precision.h"

namespace rwkvx {
namespace {

// Calls use(tensor of the first, …) for every tensor of states of one model.
template <class Use, class... States>
void for_tensors(const Use& use, ModelState& first, States&... others) {
  use(first.t, others.t...);
  for (std::size_t l = 0; l < first.layers.size(); ++l)
    for (std::size_t i = 0; i < first.layers[l].size(); ++i)
      use(first.layers[l][i], others.layers[l][i]...);
}

// One of the sequences that were computed together, whose states stay together until some of them
// go on with others. Calls replace states; they never change tensors that a sequence still has.
class ModuleSequence : public SequenceState {
 public:
  explicit ModuleSequence(ModelState start)
      : stack(std::make_shared<const ModelState>(std::move(start))) {}
  std::unique_ptr<SequenceState> copy() const override {
    return std::make_unique<ModuleSequence>(*this);
  }
  // Its own state.
  ModelState state() const {
    ModelState own = *stack;
    for_tensors([&](at::Tensor& one) { one = one.narrow(0, row, 1); }, own);
    return own;
  }
  std::shared_ptr<const ModelState> stack;
  std::int64_t row = 0;
};

bool is_quantized(const TensorView& tensor) {
  return tensor.dtype == DType::kI8 || tensor.dtype == DType::kU8;
}

// The model's weights: int8 matrices as they are where `integers` is there to take them, of other
// quantized ones what they stand for.
void load_any_weights(RwkvImpl& model, const TensorFile& file, c10::Device device,
                      IntegerMatrices* integers) {
  const auto rows = describe_parameters(model.config());
  if (std::ranges::none_of(file.tensors(), is_quantized)) return load_weights(model, file);
  const torch::NoGradGuard no_grad;
  WeightReader reader(file, rows, WeightReader::Use::kCompute);
  auto parameters = model.named_parameters();
  for (const auto& row : rows) {
    auto& parameter = parameters[row.name];
    if (!is_quantized(*file.find(row.name))) {
      parameter.copy_(torch::from_blob(reader.vector(row.name), row.shape, torch::kFloat32));
      continue;
    }
    const auto matrix = reader.matrix(row.name);  // (out, in)
    if (integers != nullptr && matrix.type == WeightType::kInt8 && !row.transposed) {
      integers->emplace(parameter.unsafeGetTensorImpl(), IntegerMatrix(matrix, device));
      parameter.set_data(torch::empty({0}));
      continue;
    }
    const auto values = torch::empty({matrix.rows, matrix.columns});
    at::parallel_for(0, matrix.rows, 64, [&](std::int64_t first, std::int64_t last) {
      unpack_rows(matrix, first, last, values.mutable_data_ptr<float>() + first * matrix.columns);
    });
    parameter.copy_(row.transposed ? values.t() : values);
  }
  reader.refuse_unread();
}

class ModuleModel : public LanguageModel {
 public:
  // On a device int8 matrices stay what they are; others that the file holds in bfloat16 or
  // quantized are in bfloat16; and matrix products then compute in it.
  ModuleModel(const TensorFile& file, const ModelConfig& config, c10::Device device)
      : device_(device), model_(config) {
    at::set_num_threads(team_threads());
    const bool kernels = cuda::takes(torch::empty({1}, device));
    load_any_weights(*model_, file, device, kernels ? &model_->integers : nullptr);
    model_->eval();
    auto parameters = model_->named_parameters();
    // Before they are moved, so that the device never has to hold them in float32.
    for (const auto& row : describe_parameters(config)) {
      const auto* found = file.find(row.name);
      auto& matrix = parameters[row.name];
      if (!kernels || !row.matrix || row.part == kEmbeddingPart || matrix.numel() == 0) continue;
      if (found->dtype != DType::kBF16 && !is_quantized(*found)) continue;
      matrix.set_data(matrix.detach().to(torch::kBFloat16));
      precision_ = "bf16";
    }
    if (!model_->integers.empty()) precision_ = "int8";
    model_->to(device);
    const PassPlace place{device, precision_ == "f32" ? torch::kFloat : torch::kBFloat16, kernels};
    if (kernels && TrainingPass::supports(config, place))
      decoding_ = std::make_unique<DecodingPass>(model_, place);
  }
  std::int64_t vocab_size() const override { return model_->config().vocab_size; }
  std::int64_t n_embd() const override { return model_->config().n_embd; }
  std::unique_ptr<SequenceState> start() const override {
    return std::make_unique<ModuleSequence>(model_->start(1));
  }
  PlainState export_state(const SequenceState& from) const override {
    const auto state = static_cast<const ModuleSequence&>(from).state();
    PlainState plain;
    plain.t = state.t.item<int64_t>();
    for (const auto& layer : state.layers)
      for (const auto& tensor : layer) {
        const auto host = tensor.to(torch::kCPU, torch::kFloat32).contiguous();
        const float* first = host.const_data_ptr<float>();
        plain.values.emplace_back(first, first + host.numel());
      }
    return plain;
  }
  std::unique_ptr<SequenceState> import_state(const PlainState& plain) const override {
    auto state = model_->start(1);
    state.t.fill_(plain.t);
    auto values = plain.values.begin();
    for (auto& layer : state.layers)
      for (auto& tensor : layer) {
        const auto given = torch::tensor(*values++).view(tensor.sizes());
        tensor = given.to(tensor.device(), tensor.scalar_type());
      }
    return std::make_unique<ModuleSequence>(std::move(state));
  }
  void prefill(std::span<const TokenId> tokens, SequenceState& state, float* logits) override {
    const torch::NoGradGuard no_grad;
    at::Tensor features;
    for_chunks(tokens, state, [&](const at::Tensor& rows) { features = rows; });
    if (logits != nullptr) copy_out(logits_of(features.narrow(0, -1, 1)), logits);
  }
  void prefill_all(std::span<const TokenId> tokens, SequenceState& state,
                   const UseLogits& use) override {
    const torch::NoGradGuard no_grad;
    std::int64_t first = 0;
    for_chunks(tokens, state, [&](const at::Tensor& features) {
      const auto logits = on_host(logits_of(features));
      use(first, {logits.const_data_ptr<float>(), static_cast<std::size_t>(logits.numel())});
      first += features.size(0);
    });
  }
  // The softmax and what is looked up in it stay on the device.
  void prefill_losses(std::span<const TokenId> tokens, std::span<const TokenId> next,
                      SequenceState& state, std::span<double> losses) override {
    const torch::NoGradGuard no_grad;
    const auto targets = ids_of(next).squeeze(0);
    std::int64_t first = 0;
    for_chunks(tokens, state, [&](const at::Tensor& features) {
      for (std::int64_t begin = 0; begin < features.size(0); begin += kLogitRows) {
        const auto count = std::min(kLogitRows, features.size(0) - begin);
        const auto logits = logits_of(features.narrow(0, begin, count)).to(torch::kFloat32);
        const auto found = at::cross_entropy_loss(logits, targets.narrow(0, first + begin, count),
                                                  {}, at::Reduction::None)
                               .to(torch::kCPU, torch::kFloat64)
                               .contiguous();
        std::copy_n(found.const_data_ptr<double>(), count, losses.begin() + first + begin);
      }
      first += features.size(0);
    });
  }
  void prefill_features(std::span<const TokenId> tokens, SequenceState& state,
                        const UseLogits& use) override {
    const torch::NoGradGuard no_grad;
    std::int64_t first = 0;
    for_chunks(tokens, state, [&](const at::Tensor& features) {
      const auto rows = on_host(features);
      use(first, {rows.const_data_ptr<float>(), static_cast<std::size_t>(rows.numel())});
      first += rows.size(0);
    });
  }
  // All sequences together, as one batch of one token each.
  void step(std::span<const TokenId> tokens, std::span<SequenceState* const> states,
            float* logits) override {
    if (tokens.empty()) return;
    const torch::NoGradGuard no_grad;
    copy_out(step_together(tokens, states), logits);
  }
  bool draws() const override { return true; }
  void step_and_draw(std::span<const TokenId> tokens, std::span<SequenceState* const> states,
                     std::span<const DrawRequest> requests, std::int64_t usable,
                     std::span<TokenLogprob> drawn) override {
    if (tokens.empty()) return;
    const torch::NoGradGuard no_grad;
    const auto logits = step_together(tokens, states).to(torch::kFloat32).contiguous();
    draw_on_device(logits, requests, usable, drawn);
  }
  std::int64_t chunk() const override { return device_.is_cpu() ? Engine::kChunk : kDeviceChunk; }
  std::string device_kind() const override {
    return c10::DeviceTypeName(device_.type(), /*lower_case=*/true);
  }
  std::string precision() const override { return precision_; }

 private:
  static ModuleSequence& of(SequenceState& state) { return static_cast<ModuleSequence&>(state); }
  MixedPrecision precision_guard() const {
    // On the CPU without `everywhere` it does nothing.
    return precision_ != "f32" ? MixedPrecision(device_, /*everywhere=*/true)
                               : MixedPrecision(c10::kCPU);
  }
  static at::Tensor on_host(const at::Tensor& rows) {
    return rows.to(torch::kCPU, torch::kFloat32).contiguous();
  }
  static void copy_out(const at::Tensor& logits, float* to) {
    const auto host = on_host(logits);
    std::memcpy(to, host.const_data_ptr<float>(), host.nbytes());
  }
  // (1, count).
  at::Tensor ids_of(std::span<const TokenId> tokens) const {
    return torch::tensor(std::vector<int64_t>(tokens.begin(), tokens.end()), torch::kInt64)
        .unsqueeze(0)
        .to(device_);
  }
  // Logits (R, V), which the next call may write over.
  at::Tensor step_together(std::span<const TokenId> tokens,
                           std::span<SequenceState* const> states) {
    const auto before = stacked(states);
    std::shared_ptr<const ModelState> after;
    at::Tensor logits;
    if (decoding_ != nullptr) {
      logits = decoding_->step(tokens, before, after);
    } else {
      const auto mixed = precision_guard();
      auto together = *before;
      logits = model_->forward(ids_of(tokens).t(), together).squeeze(1);
      after = std::make_shared<const ModelState>(std::move(together));
    }
    for (std::size_t i = 0; i < states.size(); ++i)
      of(*states[i]).stack = after, of(*states[i]).row = static_cast<std::int64_t>(i);
    return logits;
  }
  // The states of sequences as one of a batch: as they lie where all of a stack go on together.
  static std::shared_ptr<const ModelState> stacked(std::span<SequenceState* const> states) {
    const auto& stack = of(*states.front()).stack;
    bool same = stack->t.size(0) == static_cast<std::int64_t>(states.size());
    for (std::size_t i = 0; same && i < states.size(); ++i)
      same = of(*states[i]).stack == stack && of(*states[i]).row == static_cast<std::int64_t>(i);
    if (same) return stack;
    std::vector<ModelState> all;
    for (auto* state : states) all.push_back(of(*state).state());
    ModelState together = all.front();
    std::vector<std::vector<at::Tensor>> rows;
    for (auto& one : all) {
      std::size_t i = 0;
      for_tensors(
          [&](at::Tensor& tensor) {
            if (i == rows.size()) rows.emplace_back();
            rows[i++].push_back(tensor);
          },
          one);
    }
    std::size_t i = 0;
    for_tensors([&](at::Tensor& tensor) { tensor = torch::cat(rows[i++]); }, together);
    return std::make_shared<const ModelState>(std::move(together));
  }
  at::Tensor logits_of(const at::Tensor& features) const {
    const auto mixed = precision_guard();
    return model_->logits(features);
  }
  // (T, C), normalized; the state goes on.
  at::Tensor features_of(std::span<const TokenId> tokens, ModelState& own) const {
    if (decoding_ != nullptr) return decoding_->features(tokens, own);
    const auto mixed = precision_guard();
    return model_->features(ids_of(tokens), own).squeeze(0);
  }
  // Calls run(features (T, C)) for pieces of bounded length; the state goes on.
  template <class Run>
  void for_chunks(std::span<const TokenId> tokens, SequenceState& state, const Run& run) const {
    const auto most = static_cast<std::size_t>(chunk());
    auto own = of(state).state();
    for (std::size_t begin = 0; begin < tokens.size(); begin += most)
      run(features_of(tokens.subspan(begin, std::min(tokens.size() - begin, most)), own));
    of(state) = ModuleSequence(std::move(own));
  }
  // On a device a call of few tokens is waiting above all.
  static constexpr std::int64_t kDeviceChunk = 4096, kLogitRows = 1024;
  c10::Device device_;
  std::string precision_ = "f32";  // of others matrix products compute in bfloat16
  mutable Rwkv model_;
  std::unique_ptr<DecodingPass> decoding_;  // with kernels for what the model has
};

}  // namespace

std::unique_ptr<LanguageModel> open_module_model(const TensorFile& file, const ModelConfig& config,
                                                 c10::Device device) {
  return std::make_unique<ModuleModel>(file, config, device);
}

std::unique_ptr<LanguageModel> open_model_on_device(const TensorFile& file,
                                                    const ModelConfig& config,
                                                    const std::string& device,
                                                    const std::string& where) {
  const auto found = find_device(device, where);
  if (found.is_cpu()) return nullptr;
  return open_module_model(file, config, found);
}

}  // namespace rwkvx
