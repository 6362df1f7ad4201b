// Forward and backward of a whole model over batches, with fused operators and memory of its own.
//
// The same mathematics as Rwkv's forward and LibTorch's gradients, which the tests hold it to: all
// that is not a matrix product happens in a few passes over memory (cores/*/modules/pass.h),
// activations that are cheap to compute again are not kept, and no step allocates. On a device with
// that device's kernels, where small temporary tensors come from LibTorch's allocator; the forward
// half decodes there, too (model/decoding_pass.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/config/model_config.h"
#include "rwkvx/model/loss_sum.h"
#include "rwkvx/modules/pass.h"

namespace rwkvx {

class BatchGraph;
class RwkvImpl;

// What the matrix products' library and its threads take beside the buffers once they work.
inline constexpr double kProductsWorkspaceBytes = 16e6;

// Batches of a form that train kernel by kernel, so that libraries are ready, before the next one
// is recorded; see TrainingPassOptions::graph.
inline constexpr int kBatchesBeforeGraph = 2;

struct TrainingPassOptions {
  bool checkpoint_blocks = false;  // keep only each block's input, and run the block again
  double l2wrap = 0;               // see TrainingConfig
  std::int64_t sequences = 0;      // of a batch at most; 0: as many of the longest as there is room
  PassPlace place = {};            // where the model is
  KeepCopy keep_copy = {};
  // With a device's kernels: what batches of one form do is recorded and started as a whole. A form
  // is the lengths and positions of the sequences; batches with weights, states, dropout or
  // `complete` go on kernel by kernel.
  bool graph = false;
  // For passes without gradients; see PassTools.
  const IntegerMatrices* integers = nullptr;
  bool gradients = true;  // false: none are asked for, so one block's activations will do
};

// Sequences one after the other, which do not see each other.
struct TrainingBatch {
  const std::int64_t* inputs = nullptr;   // (tokens)
  const std::int64_t* targets = nullptr;  // (tokens); null where no loss is wanted
  const float* weights = nullptr;         // (tokens), of the losses; null: all 1
  std::vector<PassSequence> sequences;
  PassStates states = {};  // of all sequences; ModelState::t is not read
  double dropout = 0;
  std::uint64_t dropout_key = 0;
  std::int64_t first_token = 0;  // of a part of a batch: its place there, on which dropout depends

  // B sequences of T tokens from an empty state.
  static TrainingBatch of_rows(const std::int64_t* inputs, const std::int64_t* targets,
                               std::int64_t B, std::int64_t T);
};

class TrainingPass {
 public:
  // What of these settings the fused operators do not cover, in words; else "". Such models train
  // through Rwkv's forward.
  static std::string lacks(const ModelConfig& config, const PassPlace& place = {});
  static bool supports(const ModelConfig& config, const PassPlace& place = {}) {
    return lacks(config, place).empty();
  }
  // Bytes of the buffers for batches of up to `tokens` tokens.
  static double buffer_bytes(const ModelConfig& config, std::int64_t tokens, std::int64_t longest,
                             const TrainingPassOptions& options);

  // For batches of up to `tokens` tokens in all, in sequences of up to `longest`. Reads the model's
  // parameters where they lie at each call; they must be contiguous float32 at options.place.
  // Throws c10::Error where the fused operators do not cover the model.
  TrainingPass(RwkvImpl& model, std::int64_t tokens, std::int64_t longest,
               const TrainingPassOptions& options);
  ~TrainingPass();
  TrainingPass(const TrainingPass&) = delete;
  TrainingPass& operator=(const TrainingPass&) = delete;

  // Returns the sum of the weighted cross-entropies in nats; adds its gradient times `scale` to the
  // parameters' defined, contiguous .grad tensors, and to the states' gradients.
  LossSum loss_and_gradients(const TrainingBatch& batch, double scale);
  // The same, telling after each block, the last one first, that the gradients of its parameters,
  // and of all after it, are complete for this batch.
  LossSum loss_and_gradients(const TrainingBatch& batch, double scale,
                             const std::function<void(std::int64_t layer)>& complete);
  // The sum alone.
  LossSum loss(const TrainingBatch& batch);
  // No loss at all: the states behind the sequences.
  void advance(const TrainingBatch& batch);
  // No loss either: (tokens, C) before the head, normalized.
  at::Tensor features(const TrainingBatch& batch);
  // And behind it: (tokens, V), of the type of activations, which the next call may write over.
  // `graph`: of batches of one token each, what such a batch does may be recorded there.
  at::Tensor logits(const TrainingBatch& batch, BatchGraph* graph = nullptr);
  // Adds scale b a to a matrix of the model in everything that is computed from now on.
  void add_adapter(const at::Tensor& matrix, const PassAdapter& adapter);

  // The same for inputs, targets (B, T), each sequence from an empty state: the mean cross-entropy,
  // and its gradient times `scale`.
  LossSum loss_and_gradients(const std::int64_t* inputs, const std::int64_t* targets,
                             std::int64_t B, std::int64_t T, double scale);
  LossSum loss(const std::int64_t* inputs, const std::int64_t* targets, std::int64_t B,
               std::int64_t T);
  // Seconds by operator, summed over all calls so far.
  const OperatorSeconds& seconds() const;
  // Batches that were started as a whole so far.
  std::int64_t graphs_started() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What to say, once, where fused operators are wanted and the reference modules train; else "".
std::string slow_training_note(const ModelConfig& config, const PassPlace& place = {});

}  // namespace rwkvx
