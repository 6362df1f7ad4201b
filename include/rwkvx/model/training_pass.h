// Forward and backward of a whole model over batches, with fused operators and memory of its own.
//
// The same mathematics as Rwkv's forward and LibTorch's gradients, which the tests hold it to: all
// that is not a matrix product happens in a few passes over memory (cores/*/modules/pass.h),
// activations that are cheap to compute again are not kept, and no step allocates.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "rwkvx/config/model_config.h"
#include "rwkvx/modules/pass.h"

namespace rwkvx {

class RwkvImpl;

struct TrainingPassOptions {
  bool checkpoint_blocks = false;  // keep only each block's input, and run the block again
  double l2wrap = 0;               // see TrainingConfig
};

class TrainingPass {
 public:
  // What of these settings the fused operators do not cover, in words; else "". Such models train
  // through Rwkv's forward.
  static std::string lacks(const ModelConfig& config);
  static bool supports(const ModelConfig& config) { return lacks(config).empty(); }
  // Bytes of the buffers for batches of up to `tokens` tokens.
  static double buffer_bytes(const ModelConfig& config, std::int64_t tokens, std::int64_t longest,
                             const TrainingPassOptions& options);

  // For batches of up to `tokens` tokens in all, in sequences of up to `longest`. Reads the model's
  // parameters where they lie at each call; they must be contiguous float32 on the CPU. Throws
  // c10::Error where the fused operators do not cover the model.
  TrainingPass(RwkvImpl& model, std::int64_t tokens, std::int64_t longest,
               const TrainingPassOptions& options);
  ~TrainingPass();
  TrainingPass(const TrainingPass&) = delete;
  TrainingPass& operator=(const TrainingPass&) = delete;

  // inputs, targets (B, T), each sequence from an empty state. Returns the mean cross-entropy in
  // nats; adds its gradient times `scale` to the parameters' defined, contiguous .grad tensors.
  double loss_and_gradients(const std::int64_t* inputs, const std::int64_t* targets, std::int64_t B,
                            std::int64_t T, double scale);
  // The mean cross-entropy alone.
  double loss(const std::int64_t* inputs, const std::int64_t* targets, std::int64_t B,
              std::int64_t T);
  // Seconds by operator, summed over all calls so far.
  const OperatorSeconds& seconds() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What to say, once, where fused operators are wanted and the reference modules train; else "".
std::string slow_training_note(const ModelConfig& config);

}  // namespace rwkvx
