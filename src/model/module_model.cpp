#include "rwkvx/model/module_model.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <cstring>

#include "rwkvx/base/threads.h"
#include "rwkvx/engine/engine.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/modules/device.h"

namespace rwkvx {
namespace {

class ModuleSequence : public SequenceState {
 public:
  explicit ModuleSequence(ModelState start) : state(std::move(start)) {}
  // Calls replace the state's tensors, they never change them.
  std::unique_ptr<SequenceState> copy() const override {
    return std::make_unique<ModuleSequence>(state);
  }
  ModelState state;
};

// Sequences go through one after the other.
class ModuleModel : public LanguageModel {
 public:
  ModuleModel(const TensorFile& file, const ModelConfig& config, c10::Device device)
      : device_(device), model_(config) {
    at::set_num_threads(team_threads());
    load_weights(*model_, file);
    model_->eval();
    model_->to(device);
  }
  std::int64_t vocab_size() const override { return model_->config().vocab_size; }
  std::int64_t n_embd() const override { return model_->config().n_embd; }
  std::unique_ptr<SequenceState> start() const override {
    return std::make_unique<ModuleSequence>(model_->start(1));
  }
  PlainState export_state(const SequenceState& from) const override {
    const auto& state = static_cast<const ModuleSequence&>(from).state;
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
    for_chunks(tokens, [&](const at::Tensor& ids) { features = model_->features(ids, of(state)); });
    if (logits != nullptr) copy_out(model_->logits(features.select(1, -1)), logits);
  }
  void prefill_all(std::span<const TokenId> tokens, SequenceState& state,
                   const UseLogits& use) override {
    const torch::NoGradGuard no_grad;
    std::int64_t first = 0;
    for_chunks(tokens, [&](const at::Tensor& ids) {
      const auto logits = model_->forward(ids, of(state)).cpu().contiguous();
      use(first, {logits.const_data_ptr<float>(), static_cast<std::size_t>(logits.numel())});
      first += ids.size(1);
    });
  }
  void prefill_features(std::span<const TokenId> tokens, SequenceState& state,
                        const UseLogits& use) override {
    const torch::NoGradGuard no_grad;
    std::int64_t first = 0;
    for_chunks(tokens, [&](const at::Tensor& ids) {
      const auto rows =
          model_->features(ids, of(state)).to(torch::kCPU, torch::kFloat32).contiguous();
      use(first, {rows.const_data_ptr<float>(), static_cast<std::size_t>(rows.numel())});
      first += ids.size(1);
    });
  }
  void step(std::span<const TokenId> tokens, std::span<SequenceState* const> states,
            float* logits) override {
    for (std::size_t i = 0; i < tokens.size(); ++i)
      prefill(tokens.subspan(i, 1), *states[i],
              logits + i * static_cast<std::size_t>(vocab_size()));
  }
  std::string device_kind() const override {
    return c10::DeviceTypeName(device_.type(), /*lower_case=*/true);
  }
  std::string precision() const override { return "f32"; }

 private:
  static ModelState& of(SequenceState& state) { return static_cast<ModuleSequence&>(state).state; }
  static void copy_out(const at::Tensor& logits, float* to) {
    const auto host = logits.cpu().contiguous();
    std::memcpy(to, host.const_data_ptr<float>(), host.nbytes());
  }
  // Calls run(ids (1, T)) for pieces of bounded length.
  template <class Run>
  void for_chunks(std::span<const TokenId> tokens, const Run& run) const {
    for (std::size_t begin = 0; begin < tokens.size();
         begin += static_cast<std::size_t>(Engine::kChunk)) {
      const auto some = tokens.subspan(
          begin, std::min(tokens.size() - begin, static_cast<std::size_t>(Engine::kChunk)));
      run(torch::tensor(std::vector<int64_t>(some.begin(), some.end()), torch::kInt64)
              .unsqueeze(0)
              .to(device_));
    }
  }
  c10::Device device_;
  mutable Rwkv model_;
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
