// RWKV-4's block: x += time mix(ln1 x); x += channel mix(ln2 x).
#pragma once

#include "cores/rwkv4/parameters.h"
#include "rwkvx/modules/block.h"
#include "rwkvx/ops/layer_norm.h"

namespace rwkvx::rwkv4 {

class Rwkv4BlockImpl : public BlockImpl {
 public:
  Rwkv4BlockImpl(const ModelConfig& config, int64_t layer);
  at::Tensor forward(at::Tensor x, const BlockContext& context, LayerState& state) override;
  std::vector<std::pair<std::string, ShiftParameters>> shifts() const override;
  at::Tensor half_lives() const override;

  // A weighted average over the past, gated by the receptance. arXiv 2305.13048, eq. 11-15.
  struct TimeMix {
    ShiftParameters shift;                          // none in the baseline
    at::Tensor time_decay, time_first;              // (A); one step decays by exp(-exp(time_decay))
    at::Tensor time_mix_k, time_mix_v, time_mix_r;  // (1, 1, C), share of the current token
    at::Tensor key, value, receptance;              // (A, C)
    at::Tensor output;                              // (C, A)
  } att;
  // A squared-ReLU layer, gated by a receptance of its own. Eq. 16-18.
  struct ChannelMix {
    ShiftParameters shift;
    at::Tensor time_mix_k, time_mix_r;  // (1, 1, C)
    at::Tensor key;                     // (F, C)
    at::Tensor receptance;              // (C, C)
    at::Tensor value;                   // (C, F)
  } ffn;
  NormParameters ln1, ln2;

 private:
  at::Tensor time_mix(const at::Tensor& x, const BlockContext& context, LayerState& state) const;
  at::Tensor channel_mix(const at::Tensor& x, const BlockContext& context, LayerState& state) const;
  StatePlaces places_;
};

}  // namespace rwkvx::rwkv4
