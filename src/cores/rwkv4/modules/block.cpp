#include "cores/rwkv4/modules/block.h"

#include <ATen/ATen.h>

#include <numbers>

#include "cores/rwkv4/modules/wkv.h"
#include "cores/shift/modules/parameters.h"
#include "cores/shift/modules/site.h"

namespace rwkvx::rwkv4 {

Rwkv4BlockImpl::Rwkv4BlockImpl(const ModelConfig& config, int64_t layer)
    : BlockImpl(rwkv4::parameters(config, layer)), places_(config) {
  const auto of = [&](const std::string& name) { return parameter(name); };
  ln1 = {of("ln1.weight"), of("ln1.bias")};
  ln2 = {of("ln2.weight"), of("ln2.bias")};
  if (config.shift.at_first()) att.shift = shift_parameters(config, "att.shift.", of);
  att.time_decay = of("att.time_decay"), att.time_first = of("att.time_first");
  att.time_mix_k = of("att.time_mix_k"), att.time_mix_v = of("att.time_mix_v");
  att.time_mix_r = of("att.time_mix_r");
  att.key = of("att.key.weight"), att.value = of("att.value.weight");
  att.receptance = of("att.receptance.weight"), att.output = of("att.output.weight");
  if (config.shift.at_second()) ffn.shift = shift_parameters(config, "ffn.shift.", of);
  ffn.time_mix_k = of("ffn.time_mix_k"), ffn.time_mix_r = of("ffn.time_mix_r");
  ffn.key = of("ffn.key.weight"), ffn.receptance = of("ffn.receptance.weight");
  ffn.value = of("ffn.value.weight");
}

at::Tensor Rwkv4BlockImpl::forward(at::Tensor x, const BlockContext& context, LayerState& state) {
  x = context.dropped(x + time_mix(layer_norm(x, ln1), context, state));        // (B, T, C)
  return context.dropped(x + channel_mix(layer_norm(x, ln2), context, state));  // (B, T, C)
}

at::Tensor Rwkv4BlockImpl::time_mix(const at::Tensor& x, const BlockContext& context,
                                    LayerState& state) const {
  const auto z =
      mix_site("att", att.shift, places_.att, x, {att.time_mix_k, att.time_mix_v, att.time_mix_r},
               context, state);  // (B, T, C) each
  const auto k = context.linear(z[0], att.key), v = context.linear(z[1], att.value),
             r = context.linear(z[2], att.receptance);            // (B, T, A)
  const auto w = -at::exp(att.time_decay);                        // (A)
  auto& past = state[static_cast<size_t>(places_.wkv)];           // (B, 3, A)
  const auto [y, after] = wkv(w, att.time_first, k, v, past, r);  // (B, T, A)
  past = after;
  return context.linear(y, att.output);  // (B, T, C)
}

at::Tensor Rwkv4BlockImpl::channel_mix(const at::Tensor& x, const BlockContext& context,
                                       LayerState& state) const {
  const auto z = mix_site("ffn", ffn.shift, places_.ffn, x, {ffn.time_mix_k, ffn.time_mix_r},
                          context, state);                 // (B, T, C) each
  const auto k = at::relu(context.linear(z[0], ffn.key));  // (B, T, F)
  const auto h = k * k;  // (B, T, F); square() is a power, float32 under autocast
  const auto r = context.linear(z[1], ffn.receptance);   // (B, T, C)
  return at::sigmoid(r) * context.linear(h, ffn.value);  // (B, T, C)
}

std::vector<std::pair<std::string, ShiftParameters>> Rwkv4BlockImpl::shifts() const {
  std::vector<std::pair<std::string, ShiftParameters>> sites;
  if (att.shift.form != nullptr) sites.emplace_back("att", att.shift);
  if (ffn.shift.form != nullptr) sites.emplace_back("ffn", ffn.shift);
  return sites;
}

at::Tensor Rwkv4BlockImpl::half_lives() const {
  return std::numbers::ln2 / at::exp(att.time_decay.detach());
}

}  // namespace rwkvx::rwkv4
