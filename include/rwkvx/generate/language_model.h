// A model to generate with: the engine on the CPU, or what a program with LibTorch has for a GPU.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "rwkvx/config/model_config.h"
#include "rwkvx/cores/names.h"
#include "rwkvx/engine/engine.h"
#include "rwkvx/generate/sampler.h"
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
  // Natural-log losses of the tokens `next`, each after those of `tokens` up to its place.
  virtual void prefill_losses(std::span<const TokenId> tokens, std::span<const TokenId> next,
                              SequenceState& state, std::span<double> losses) = 0;
  // The rows that the head reads, (count, C).
  virtual void prefill_features(std::span<const TokenId> tokens, SequenceState& state,
                                const UseLogits& use) = 0;
  virtual void step(std::span<const TokenId> tokens, std::span<SequenceState* const> states,
                    float* logits) = 0;
  // Whether it can draw tokens where it computes, so that no logits leave the place.
  virtual bool draws() const { return false; }
  // step(), and from each sequence's logits a token below `usable` as a Sampler would draw it, but
  // for the rounding of exponentials, with its log probability; or what sampler.h has in place of a
  // token. Only where draws().
  virtual void step_and_draw(std::span<const TokenId> tokens,
                             std::span<SequenceState* const> states,
                             std::span<const DrawRequest> requests, std::int64_t usable,
                             std::span<TokenLogprob> drawn);
  // Tokens of a prompt that a call takes at best: fewer are slower, more gain nothing.
  virtual std::int64_t chunk() const = 0;
  // "cpu" or "cuda", and the type of the weights: "f32".
  virtual std::string device_kind() const = 0;
  virtual std::string precision() const = 0;
};

// Opens a model on a device that is not the CPU; null where `device` turns out to be the CPU.
using OpenOnDevice = std::unique_ptr<LanguageModel> (*)(const TensorFile& file,
                                                        const ModelConfig& config,
                                                        const std::string& device,
                                                        const std::string& where);
// What open_language_model() asks first, set by programs with LibTorch: model/module_model.h.
extern OpenOnDevice open_on_device;

// device: "auto", "cpu", "cuda", "cuda:N"; `where` names the setting in errors. Throws ConfigError
// for other texts and for a device that is not to be had.
std::unique_ptr<LanguageModel> open_language_model(const TensorFile& file,
                                                   const ModelConfig& config,
                                                   const std::string& device,
                                                   const std::string& where);

}  // namespace rwkvx
