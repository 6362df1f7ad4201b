// The language model: embedding, the blocks of its core, head.
#pragma once

#include <torch/nn/pimpl.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "rwkvx/config/model_config.h"
#include "rwkvx/modules/block.h"
#include "rwkvx/modules/state.h"
#include "rwkvx/ops/layer_norm.h"

namespace rwkvx {

class RwkvImpl : public torch::nn::Module {
 public:
  // All parameters zero: see initialize() and model/checkpoint.h. config.vocab_size is set. Throws
  // ConfigError where there is no such core.
  explicit RwkvImpl(const ModelConfig& config);

  // tokens (B, T) int64 -> logits (B, T, V). Advances `state` by T tokens; the gradient does not
  // reach into the state's past, unless the state is differentiable. However a sequence is cut into
  // calls, the logits are the same.
  at::Tensor forward(const at::Tensor& tokens, ModelState& state);
  // The same up to the head: (B, T, C), normalized. `observer` sees every site of every block,
  // under names such as "blocks.0.att".
  at::Tensor features(const at::Tensor& tokens, ModelState& state,
                      const std::function<void(const SiteView&)>& observer = {});
  // features (..., C) -> logits (..., V).
  at::Tensor logits(const at::Tensor& features) const;
  // The state before the first token of B sequences.
  ModelState start(int64_t B) const;
  // The core's initial values. Each parameter has its own random stream, made from the seed and its
  // name: variants of a model share the values of the parameters that they share.
  void initialize(uint64_t seed, double embedding_range);

  const ModelConfig& config() const { return config_; }
  BlockImpl& block(int64_t layer) const { return *block_ptr(layer); }
  std::shared_ptr<BlockImpl> block_ptr(int64_t layer) const {
    return blocks_[static_cast<size_t>(layer)];
  }

  // Of the residual stream, while gradients are wanted: RWKV-LM's (behind the embedding and behind
  // each addition).
  double dropout = 0;

  // Matrices that are held as integers, for inference. Of their parameters nothing is read.
  IntegerMatrices integers;

  at::Tensor emb;              // (V, C)
  NormParameters ln0, ln_out;  // of the embedding, and before the head
  at::Tensor head;             // (V, C)

 private:
  ModelConfig config_;
  std::vector<std::shared_ptr<BlockImpl>> blocks_;
};
TORCH_MODULE(Rwkv);

}  // namespace rwkvx
