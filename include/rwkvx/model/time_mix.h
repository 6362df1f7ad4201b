// RWKV-4's time mix: a weighted average over the past, gated by the receptance.
#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include "rwkvx/config/model_config.h"
#include "rwkvx/model/gated_shift.h"
#include "rwkvx/model/state.h"

namespace rwkvx {

class TimeMixImpl : public torch::nn::Cloneable<TimeMixImpl> {
 public:
  explicit TimeMixImpl(const ModelConfig& config);
  void reset() override;
  // x (B, T, C), normalised -> (B, T, C). phi: position features or undefined. Advances att_x,
  // att_ring and wkv of `state`, which are constants to the gradient. arXiv 2305.13048, eq. 11-15.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& phi, LayerState& state);

  GatedShift shift{nullptr};          // none in the baseline
  at::Tensor time_decay, time_first;  // (A); the decay of one step is exp(-exp(time_decay))
  at::Tensor time_mix_k, time_mix_v, time_mix_r;  // (1, 1, C), how much of the current token
  torch::nn::Linear key{nullptr}, value{nullptr}, receptance{nullptr}, output{nullptr};

 private:
  ModelConfig config_;
};
TORCH_MODULE(TimeMix);

}  // namespace rwkvx
