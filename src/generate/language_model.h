// A model to generate with: the engine on the CPU, LibTorch's modules on a GPU.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "rwkvx/config/model_config.h"
#include "rwkvx/cores/names.h"
#include "rwkvx/engine/engine.h"
#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

// Where one sequence stands.
class SequenceState {
 public:
  virtual ~SequenceState() = default;
  virtual std::unique_ptr<SequenceState> copy() const = 0;
};

class LanguageModel {
 public:
  using UseLogits = std::function<void(std::int64_t first, std::span<const float> logits)>;
  virtual ~LanguageModel() = default;
  virtual std::int64_t vocab_size() const = 0;
  virtual std::int64_t n_embd() const = 0;
  virtual std::unique_ptr<SequenceState> start() const = 0;
  // A state as files hold it, whatever it was made on, and back.
  virtual PlainState export_state(const SequenceState& state) const = 0;
  virtual std::unique_ptr<SequenceState> import_state(const PlainState& state) const = 0;
  // See Engine. logits (V) or (count, V) on the processor.
  virtual void prefill(std::span<const TokenId> tokens, SequenceState& state, float* logits) = 0;
  virtual void prefill_all(std::span<const TokenId> tokens, SequenceState& state,
                           const UseLogits& use) = 0;
  // The rows that the head reads, (count, C).
  virtual void prefill_features(std::span<const TokenId> tokens, SequenceState& state,
                                const UseLogits& use) = 0;
  virtual void step(std::span<const TokenId> tokens, std::span<SequenceState* const> states,
                    float* logits) = 0;
  // "cpu" or "cuda", and the type of the weights: "f32".
  virtual std::string device_kind() const = 0;
  virtual std::string precision() const = 0;
};

// device: see find_device() in cores/device.h; `where` names the setting in its errors.
std::unique_ptr<LanguageModel> open_language_model(const TensorFile& file,
                                                   const ModelConfig& config,
                                                   const std::string& device,
                                                   const std::string& where);

// The model in LibTorch's modules, as it computes on a GPU, on any device.
std::unique_ptr<LanguageModel> open_module_model(const TensorFile& file, const ModelConfig& config,
                                                 c10::Device device);

}  // namespace rwkvx
