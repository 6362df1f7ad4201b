// The language model: embedding, blocks, head. RWKV-4 (arXiv 2305.13048), with a gated positional
// shift in front of the mixers where the configuration asks for it.
#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include <cstdint>

#include "rwkvx/config/model_config.h"
#include "rwkvx/model/block.h"
#include "rwkvx/model/state.h"

namespace rwkvx {

class RwkvImpl : public torch::nn::Cloneable<RwkvImpl> {
 public:
  // All parameters zero: see initialise() and model/checkpoint.h. config.vocab_size is set.
  explicit RwkvImpl(const ModelConfig& config);
  void reset() override;

  // tokens (B, T) int64 -> logits (B, T, V). Advances `state` by T tokens; the gradient does not
  // reach into the state's past. However a sequence is cut into calls, the logits are the same.
  at::Tensor forward(const at::Tensor& tokens, ModelState& state);
  // The same up to the head: (B, T, C), normalised.
  at::Tensor features(const at::Tensor& tokens, ModelState& state);
  // The state before the first token of B sequences.
  ModelState start(int64_t B) const;
  // RWKV-4's initial values. Each parameter has its own random stream, made from the seed and its
  // name: variants of a model share the values of the parameters that they share.
  void initialise(uint64_t seed, double embedding_range);

  const ModelConfig& config() const { return config_; }
  BlockImpl& block(int64_t layer) const;

  torch::nn::Embedding emb{nullptr};
  torch::nn::ModuleList blocks{nullptr};
  torch::nn::LayerNorm ln_out{nullptr};
  torch::nn::Linear head{nullptr};

 private:
  ModelConfig config_;
};
TORCH_MODULE(Rwkv);

}  // namespace rwkvx
