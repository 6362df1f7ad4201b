#include "rwkvx/generate/language_model.h"

#include <stdexcept>

#include "rwkvx/base/device_name.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/threads.h"
#include "rwkvx/generate/sampler.h"
#include "rwkvx/kernels/team.h"

namespace rwkvx {
namespace {

class EngineSequence : public SequenceState {
 public:
  explicit EngineSequence(EngineState start) : state(std::move(start)) {}
  std::unique_ptr<SequenceState> copy() const override {
    return std::make_unique<EngineSequence>(state);
  }
  EngineState state;
};

class EngineModel : public LanguageModel {
 public:
  EngineModel(const TensorFile& file, const ModelConfig& config) : engine_(file, config) {}
  std::int64_t vocab_size() const override { return engine_.config().vocab_size; }
  std::int64_t n_embd() const override { return engine_.config().n_embd; }
  std::unique_ptr<SequenceState> start() const override {
    return std::make_unique<EngineSequence>(engine_.start());
  }
  PlainState export_state(const SequenceState& state) const override {
    return engine_.export_state(static_cast<const EngineSequence&>(state).state);
  }
  std::unique_ptr<SequenceState> import_state(const PlainState& state) const override {
    return std::make_unique<EngineSequence>(engine_.import_state(state));
  }
  void prefill(std::span<const TokenId> tokens, SequenceState& state, float* logits) override {
    engine_.prefill(tokens, of(state), logits);
  }
  void prefill_all(std::span<const TokenId> tokens, SequenceState& state,
                   const UseLogits& use) override {
    engine_.prefill_all(tokens, of(state), use);
  }
  void prefill_losses(std::span<const TokenId> tokens, std::span<const TokenId> next,
                      SequenceState& state, std::span<double> losses) override {
    const auto V = static_cast<std::size_t>(vocab_size());
    prefill_all(tokens, state, [&](std::int64_t first, std::span<const float> rows) {
      const auto find = [&](std::int64_t begin, std::int64_t end) {
        for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
          const auto at = static_cast<std::size_t>(first) + i;
          losses[at] = -log_probability(rows.subspan(i * V, V), next[at]);
        }
      };
      run_in_pieces(team_threads(), static_cast<std::int64_t>(rows.size() / V), 1, find);
    });
  }
  void prefill_features(std::span<const TokenId> tokens, SequenceState& state,
                        const UseLogits& use) override {
    engine_.prefill_features(tokens, of(state), use);
  }
  void step(std::span<const TokenId> tokens, std::span<SequenceState* const> states,
            float* logits) override {
    pointers_.clear();
    for (auto* state : states) pointers_.push_back(&of(*state));
    engine_.step(tokens, pointers_, logits);
  }
  std::int64_t chunk() const override { return Engine::kChunk; }
  std::string device_kind() const override { return "cpu"; }
  std::string precision() const override {
    return std::string(weight_type_name(engine_.weight_type()));
  }

 private:
  static EngineState& of(SequenceState& state) { return static_cast<EngineSequence&>(state).state; }
  Engine engine_;
  std::vector<EngineState*> pointers_;
};

}  // namespace

void LanguageModel::step_and_draw(std::span<const TokenId>, std::span<SequenceState* const>,
                                  std::span<const DrawRequest>, std::int64_t,
                                  std::span<TokenLogprob>) {
  throw std::logic_error("this model does not draw");
}

OpenOnDevice open_on_device = nullptr;

std::unique_ptr<LanguageModel> open_language_model(const TensorFile& file,
                                                   const ModelConfig& config,
                                                   const std::string& device,
                                                   const std::string& where) {
  if (open_on_device != nullptr) {
    if (auto model = open_on_device(file, config, device, where)) return model;
  } else if (const auto name = parse_device_name(device, where);
             !name.is_auto() && !name.is_cpu()) {
    throw ConfigError(
        where, "expected auto or cpu, got \"" + device + "\": this program has no part for GPUs");
  }
  return std::make_unique<EngineModel>(file, config);
}

}  // namespace rwkvx
