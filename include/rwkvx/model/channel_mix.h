// RWKV-4's channel mix: a squared-ReLU layer, gated by a receptance of its own.
#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include "rwkvx/config/model_config.h"
#include "rwkvx/model/gated_shift.h"
#include "rwkvx/model/state.h"

namespace rwkvx {

class ChannelMixImpl : public torch::nn::Cloneable<ChannelMixImpl> {
 public:
  explicit ChannelMixImpl(const ModelConfig& config);
  void reset() override;
  // x (B, T, C), normalised -> (B, T, C). phi: position features or undefined. Advances ffn_x and
  // ffn_ring of `state`, which are constants to the gradient. arXiv 2305.13048, eq. 16-18.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& phi, LayerState& state);

  GatedShift shift{nullptr};          // none in the baseline
  at::Tensor time_mix_k, time_mix_r;  // (1, 1, C), how much of the current token
  torch::nn::Linear key{nullptr}, receptance{nullptr}, value{nullptr};

 private:
  ModelConfig config_;
};
TORCH_MODULE(ChannelMix);

}  // namespace rwkvx
