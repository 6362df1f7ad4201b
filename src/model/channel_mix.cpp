#include "rwkvx/model/channel_mix.h"

#include <torch/types.h>

#include "rwkvx/ops/shift_mix.h"

namespace rwkvx {

ChannelMixImpl::ChannelMixImpl(const ModelConfig& config) : config_(config) { reset(); }

void ChannelMixImpl::reset() {
  const int64_t C = config_.n_embd, F = config_.ffn_channels();
  if (config_.shift.at_ffn()) shift = register_module("shift", GatedShift(config_));
  time_mix_k = register_parameter("time_mix_k", torch::zeros({1, 1, C}));
  time_mix_r = register_parameter("time_mix_r", torch::zeros({1, 1, C}));
  const auto linear = [&](const char* name, int64_t in, int64_t out) {
    return register_module(name, torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(false)));
  };
  key = linear("key", C, F);
  receptance = linear("receptance", C, C);
  value = linear("value", F, C);
}

at::Tensor ChannelMixImpl::forward(const at::Tensor& x, const at::Tensor& phi, LayerState& state) {
  const auto z = shift_mix(x, shift.is_empty() ? ConvShiftParameters() : shift->learned, phi,
                           {time_mix_k, time_mix_r}, state.ffn_ring, state.ffn_x);
  const auto k = torch::relu(key(z[0]));  // (B, T, F)
  const auto h = k * k;                   // (B, T, F); square() is a power, float32 under autocast
  const auto r = receptance(z[1]);        // (B, T, C)
  return torch::sigmoid(r) * value(h);    // (B, T, C)
}

}  // namespace rwkvx
