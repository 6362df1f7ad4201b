#include "rwkvx/model/time_mix.h"

#include <torch/types.h>

#include "rwkvx/ops/shift_mix.h"
#include "rwkvx/ops/wkv.h"

namespace rwkvx {

TimeMixImpl::TimeMixImpl(const ModelConfig& config) : config_(config) { reset(); }

void TimeMixImpl::reset() {
  const int64_t C = config_.n_embd, A = config_.att_channels();
  if (config_.shift.at_att()) shift = register_module("shift", GatedShift(config_));
  time_decay = register_parameter("time_decay", torch::zeros({A}));
  time_first = register_parameter("time_first", torch::zeros({A}));
  time_mix_k = register_parameter("time_mix_k", torch::zeros({1, 1, C}));
  time_mix_v = register_parameter("time_mix_v", torch::zeros({1, 1, C}));
  time_mix_r = register_parameter("time_mix_r", torch::zeros({1, 1, C}));
  const auto linear = [&](const char* name, int64_t in, int64_t out) {
    return register_module(name, torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(false)));
  };
  key = linear("key", C, A);
  value = linear("value", C, A);
  receptance = linear("receptance", C, A);
  output = linear("output", A, C);
}

at::Tensor TimeMixImpl::forward(const at::Tensor& x, const at::Tensor& phi, LayerState& state) {
  const auto z = shift_mix(x, shift.is_empty() ? ConvShiftParameters() : shift->learned, phi,
                           {time_mix_k, time_mix_v, time_mix_r}, state.att_ring, state.att_x);
  const auto k = key(z[0]), v = value(z[1]), r = receptance(z[2]);     // (B, T, A)
  const auto w = -torch::exp(time_decay);                              // (A)
  const auto [y, wkv_state] = wkv(w, time_first, k, v, state.wkv, r);  // (B, T, A)
  state.wkv = wkv_state.detach();
  return output(y);  // (B, T, C)
}

}  // namespace rwkvx
