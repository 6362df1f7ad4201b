// One RWKV block: x += time mix(norm x); x += channel mix(norm x).
#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include "rwkvx/model/channel_mix.h"
#include "rwkvx/model/time_mix.h"

namespace rwkvx {

class BlockImpl : public torch::nn::Cloneable<BlockImpl> {
 public:
  BlockImpl(const ModelConfig& config, int64_t layer);
  void reset() override;
  // x (B, T, C), the residual stream -> (B, T, C). Advances `state`.
  at::Tensor forward(at::Tensor x, const at::Tensor& phi, LayerState& state);

  torch::nn::LayerNorm ln0{nullptr};  // normalises the embedding; the first block's only
  torch::nn::LayerNorm ln1{nullptr}, ln2{nullptr};
  TimeMix att{nullptr};
  ChannelMix ffn{nullptr};

 private:
  ModelConfig config_;
  int64_t layer_;
};
TORCH_MODULE(Block);

}  // namespace rwkvx
