// A model prepared for generation on the CPU: weights where the file is mapped, a flat state, one
// pass of own kernels per token. Held by tests to Rwkv's forward (model/rwkv.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "rwkvx/config/model_config.h"
#include "rwkvx/cores/names.h"
#include "rwkvx/cores/state.h"
#include "rwkvx/kernels/weight_matrix.h"

namespace rwkvx {

// What a sequence carries from token to token; cheap to copy, of constant size. The numbers of the
// rows of describe_state() one after the other, rings with position t in part t mod H.
struct EngineState {
  std::vector<float> values;
  std::int64_t t = 0;  // tokens seen
};

class Engine {
 public:
  using Token = std::int32_t;

  // The file's matrices are used where they lie if they are float32, bfloat16 or quantized
  // (engine/quantize.h), other types are converted. Throws CheckpointError naming the tensor where
  // the file does not hold the model that `config` describes.
  Engine(const TensorFile& file, const ModelConfig& config);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const ModelConfig& config() const;
  // The type of most weights.
  WeightType weight_type() const;
  // Bytes of weights that one token reads.
  std::int64_t bytes_per_token() const;
  // The state before the first token.
  EngineState start() const;
  // A state as files hold it, and back. The state must have the model's rows.
  PlainState export_state(const EngineState& state) const;
  EngineState import_state(const PlainState& state) const;

  // Feeds one token to each of some sequences; logits (count, V). What a sequence gets does not
  // depend on the others, nor on the number of threads.
  void step(std::span<const Token> tokens, std::span<EngineState* const> states, float* logits);
  // Feeds a sequence's next tokens in chunks of kChunk, matrix times matrix; logits (V) after the
  // last one, or null.
  void prefill(std::span<const Token> tokens, EngineState& state, float* logits);
  // The same with the logits after every token: use(first, logits) gets (count, V) in order.
  void prefill_all(std::span<const Token> tokens, EngineState& state,
                   const std::function<void(std::int64_t first, std::span<const float>)>& use);

  // The same with what the head reads, the rows of the last layer norm: use(first, rows) gets
  // (count, C) in order.
  void prefill_features(std::span<const Token> tokens, EngineState& state,
                        const std::function<void(std::int64_t first, std::span<const float>)>& use);

  // Tokens of a prompt that go through the model together. Cutting a prompt at multiples of it does
  // not change a bit of the result.
  static constexpr std::int64_t kChunk = 256;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Seconds to read each byte of `bytes` of memory once with all threads, the least of some tries:
// the limit of decoding.
double measure_read_seconds(std::int64_t bytes, int repeats);

}  // namespace rwkvx
