#include "cores/rwkv7/modules/block.h"

#include <ATen/ATen.h>

#include <numbers>

#include "cores/rwkv7/head_kernel.h"
#include "cores/rwkv7/modules/wkv.h"
#include "cores/shift/modules/parameters.h"
#include "cores/shift/modules/site.h"

namespace rwkvx::rwkv7 {
namespace {

at::Tensor through(const at::Tensor& x, const Rwkv7BlockImpl::Pair& pair) {
  return at::matmul(at::matmul(x, pair.first), pair.second);
}

// The rows of each head divided by their length, which is at least 1e-12.
at::Tensor unit_rows(const at::Tensor& x) {
  return x / at::sqrt((x * x).sum(-1, /*keepdim=*/true)).clamp_min(1e-12);
}

}  // namespace

Rwkv7BlockImpl::Rwkv7BlockImpl(const ModelConfig& config, int64_t layer)
    : BlockImpl(rwkv7::parameters(config, layer)), size_(config), places_(config) {
  const auto of = [&](const std::string& name) { return parameter(name); };
  const auto pair = [&](const std::string& name) {
    return Pair{of("att." + name + "1"), of("att." + name + "2")};
  };
  ln1 = {of("ln1.weight"), of("ln1.bias")};
  ln2 = {of("ln2.weight"), of("ln2.bias")};
  if (config.shift.at_first()) att.shift = shift_parameters(config, "att.shift.", of);
  att.x_r = of("att.x_r"), att.x_w = of("att.x_w"), att.x_k = of("att.x_k");
  att.x_v = of("att.x_v"), att.x_a = of("att.x_a"), att.x_g = of("att.x_g");
  att.w0 = of("att.w0"), att.a0 = of("att.a0");
  att.w = pair("w"), att.a = pair("a"), att.g = pair("g");
  if (layer > 0) att.v0 = of("att.v0"), att.v = pair("v");
  att.k_k = of("att.k_k"), att.k_a = of("att.k_a"), att.r_k = of("att.r_k");
  att.receptance = of("att.receptance.weight"), att.key = of("att.key.weight");
  att.value = of("att.value.weight"), att.output = of("att.output.weight");
  att.ln_x = {of("att.ln_x.weight"), of("att.ln_x.bias")};
  if (config.shift.at_second()) ffn.shift = shift_parameters(config, "ffn.shift.", of);
  ffn.x_k = of("ffn.x_k"), ffn.key = of("ffn.key.weight"), ffn.value = of("ffn.value.weight");
}

at::Tensor Rwkv7BlockImpl::forward(at::Tensor x, const BlockContext& context, LayerState& state) {
  x = context.dropped(x + time_mix(layer_norm(x, ln1), context, state));        // (B, T, C)
  return context.dropped(x + channel_mix(layer_norm(x, ln2), context, state));  // (B, T, C)
}

at::Tensor Rwkv7BlockImpl::time_mix(const at::Tensor& x, const BlockContext& context,
                                    LayerState& state) const {
  const auto z =
      mix_site("att", att.shift, places_.att, x,
               {1 - att.x_r, 1 - att.x_w, 1 - att.x_k, 1 - att.x_v, 1 - att.x_a, 1 - att.x_g},
               context, state);  // (B, T, C) each
  const auto r = context.linear(z[0], att.receptance), k = context.linear(z[2], att.key);
  auto v = context.linear(z[3], att.value);  // (B, T, C)
  const auto w = att.w0 + at::matmul(at::tanh(at::matmul(z[1], att.w.first)), att.w.second);
  const auto d = at::exp(kDecayScale * at::sigmoid(w));
  const auto a = at::sigmoid(att.a0 + through(z[4], att.a));
  const auto g = at::matmul(at::sigmoid(at::matmul(z[5], att.g.first)), att.g.second);
  if (att.v0.defined())
    v = v + (*context.handed_on - v) * at::sigmoid(att.v0 + through(z[3], att.v));
  else
    *context.handed_on = v;
  const auto heads = [&](const at::Tensor& rows) {
    return rows.unflatten(-1, {size_.H, size_.N});  // (B, T, H, N)
  };
  const auto kappa = unit_rows(heads(k * att.k_k)), rate = heads(a);
  const auto key = heads(k * (1 + (a - 1) * att.k_a)), value = heads(v), receptance = heads(r);
  auto& past = state[static_cast<size_t>(places_.wkv)];  // (B, H, N, N)
  auto [y, after] = wkv7(receptance, heads(d), key, value, -kappa, kappa * rate, past);
  past = after;
  const auto away = y - y.mean(-1, /*keepdim=*/true);
  y = away / at::sqrt((away * away).mean(-1, /*keepdim=*/true) + kHeadNormEpsilon);
  y = y.flatten(-2) * att.ln_x.weight + att.ln_x.bias;  // (B, T, C)
  const auto bonus = (receptance * key * att.r_k).sum(-1, /*keepdim=*/true) * value;
  return context.linear((y + bonus.flatten(-2)) * g, att.output);
}

at::Tensor Rwkv7BlockImpl::channel_mix(const at::Tensor& x, const BlockContext& context,
                                       LayerState& state) const {
  const auto z = mix_site("ffn", ffn.shift, places_.ffn, x, {1 - ffn.x_k}, context, state);
  const auto k = at::relu(context.linear(z[0], ffn.key));  // (B, T, F)
  return context.linear(k * k, ffn.value);                 // (B, T, C)
}

std::vector<std::pair<std::string, ShiftParameters>> Rwkv7BlockImpl::shifts() const {
  std::vector<std::pair<std::string, ShiftParameters>> sites;
  if (att.shift.form != nullptr) sites.emplace_back("att", att.shift);
  if (ffn.shift.form != nullptr) sites.emplace_back("ffn", ffn.shift);
  return sites;
}

at::Tensor Rwkv7BlockImpl::half_lives() const {
  // Of the decay that a token without anything of its own has.
  return std::numbers::ln2 / (-kDecayScale * at::sigmoid(att.w0.detach().flatten()));
}

at::Tensor Rwkv7BlockImpl::in_context_rates() const {
  return at::sigmoid(att.a0.detach().flatten());
}

}  // namespace rwkvx::rwkv7
