// RWKV-7's block: x += time mix(ln1 x); x += channel mix(ln2 x).
#pragma once

#include "cores/rwkv7/parameters.h"
#include "rwkvx/modules/block.h"
#include "rwkvx/ops/layer_norm.h"

namespace rwkvx::rwkv7 {

class Rwkv7BlockImpl : public BlockImpl {
 public:
  Rwkv7BlockImpl(const ModelConfig& config, int64_t layer);
  at::Tensor forward(at::Tensor x, const BlockContext& context, LayerState& state) override;
  std::vector<std::pair<std::string, ShiftParameters>> shifts() const override;
  at::Tensor half_lives() const override;
  at::Tensor in_context_rates() const override;

  // What a narrow layer makes of a token: x first second.
  struct Pair {
    at::Tensor first;   // (C, rank)
    at::Tensor second;  // (rank, C)
  };
  // A state of a matrix per head, which every token decays, corrects and adds to. arXiv 2503.14456.
  struct TimeMix {
    ShiftParameters shift;                      // none in the baseline
    at::Tensor x_r, x_w, x_k, x_v, x_a, x_g;    // (1, 1, C), share of the token before
    at::Tensor w0, a0, v0;                      // (1, 1, C); v0 not in the first block
    Pair w, a, v, g;                            // v not in the first block
    at::Tensor k_k, k_a;                        // (1, 1, C)
    at::Tensor r_k;                             // (H, N)
    at::Tensor receptance, key, value, output;  // (C, C)
    NormParameters ln_x;                        // of each head
  } att;
  // A squared-ReLU layer.
  struct ChannelMix {
    ShiftParameters shift;
    at::Tensor x_k;    // (1, 1, C)
    at::Tensor key;    // (F, C)
    at::Tensor value;  // (C, F)
  } ffn;
  NormParameters ln1, ln2;

 private:
  at::Tensor time_mix(const at::Tensor& x, const BlockContext& context, LayerState& state) const;
  at::Tensor channel_mix(const at::Tensor& x, const BlockContext& context, LayerState& state) const;
  Sizes size_;
  StatePlaces places_;
};

}  // namespace rwkvx::rwkv7
