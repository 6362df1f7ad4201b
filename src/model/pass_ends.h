// What of a model's fused training lies before and behind its blocks: the embedding and its norm;
// the last norm, the head and the loss.
#pragma once

#include <memory>
#include <vector>

#include "rwkvx/model/training_pass.h"

namespace rwkvx {

class PassEnds {
 public:
  virtual ~PassEnds() = default;
  // What follows is of this batch, of `tokens` tokens, which lives as long.
  virtual void begin(const TrainingBatch& batch, std::int64_t tokens) = 0;
  // x (tokens, C) <- the embedded tokens, normalized.
  virtual void embed(const at::Tensor& x) = 0;
  // From x's gradient, which it may write over.
  virtual void embed_backward(const at::Tensor& gradient) = 0;
  // The losses of the tokens behind x; with scale, x's gradient times it, else that is not read.
  virtual void head(double scale, const at::Tensor& x, const at::Tensor& gradient) = 0;
  // (tokens, C), x normalized for the head.
  virtual at::Tensor features(const at::Tensor& x) = 0;
  // (tokens, V), of the type of activations, from x; the next call may write over it.
  virtual at::Tensor logits(const at::Tensor& x) = 0;
  // The sum of the weighted losses of the last head().
  virtual LossSum loss() const = 0;
};

struct PassEndsSetup {
  RwkvImpl& model;
  PassTools& tools;
  const TrainingPassOptions& options;
  std::int64_t tokens;  // of a batch at most
};
// Rows of the head's logits that exist at a time, for batches of up to `tokens` tokens.
std::int64_t head_rows_of(const ModelConfig& config, std::int64_t tokens, const PassPlace& place);
// Numbers from one row of logits to the next.
std::int64_t logits_width(const ModelConfig& config, const PassPlace& place);
// Floats of their buffers.
double pass_ends_floats(const ModelConfig& config, std::int64_t tokens, const PassPlace& place);

std::unique_ptr<PassEnds> make_ends(const PassEndsSetup& setup);            // on the CPU
std::unique_ptr<PassEnds> make_ends_on_device(const PassEndsSetup& setup);  // with kernels

}  // namespace rwkvx
