// The enhancement at one site: a position-aware convolutional shift and the neurally gated routing
// that decides per token how much of it goes on. Inspired by arXiv 2502.15485.
#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include "rwkvx/config/model_config.h"
#include "rwkvx/ops/conv_shift.h"

namespace rwkvx {

class GatedShiftImpl : public torch::nn::Cloneable<GatedShiftImpl> {
 public:
  explicit GatedShiftImpl(const ModelConfig& config);
  void reset() override;
  // The gate of every token and channel of a (B, T, C): (B, T, C). Changes nothing.
  at::Tensor gate(const at::Tensor& a, const at::Tensor& phi, const at::Tensor& ring) const;

  ConvShiftParameters learned;  // what the mixers hand to ops/shift_mix.h

 private:
  ModelConfig config_;
};
TORCH_MODULE(GatedShift);

}  // namespace rwkvx
