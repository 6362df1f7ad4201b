#include "rwkvx/study/gates.h"

#include <torch/types.h>

#include <algorithm>

#include "rwkvx/model/gated_shift.h"
#include "rwkvx/model/rwkv.h"

namespace rwkvx {

std::vector<SiteGates> read_gates(RwkvImpl& model, const at::Tensor& tokens) {
  const torch::NoGradGuard no_grad;
  const auto& shift = model.config().shift;
  auto state = model.start(tokens.size(0));
  at::Tensor phi;
  if (shift.enabled() && shift.features() > 0)
    phi = position_features(shift.pos, state.t, tokens.size(1)).to(torch::kFloat32);
  std::vector<SiteGates> sites;
  const auto look = [&](const GatedShift& site, const std::string& name, const at::Tensor& a,
                        at::Tensor ring) {
    if (site.is_empty()) return;
    const auto gate = site->gate(a, phi, ring).squeeze(0);                  // (T, C)
    const auto added = conv_shift(a, site->learned, phi, ring) - a;         // (1, T, C)
    const auto share = added.norm(2, -1) / a.norm(2, -1).clamp_min(1e-12);  // (1, T)
    sites.push_back({name, gate, share.squeeze(0)});
  };
  auto x = model.emb(tokens);  // (1, T, C)
  for (int64_t layer = 0; layer < model.config().n_layer; ++layer) {
    auto& block = model.block(layer);
    auto& own = state.layers[static_cast<std::size_t>(layer)];
    const auto prefix = "blocks." + std::to_string(layer);
    if (!block.ln0.is_empty()) x = block.ln0(x);
    const auto a = block.ln1(x);
    look(block.att->shift, prefix + ".att", a, own.att_ring);
    x = x + block.att->forward(a, phi, own);
    const auto b = block.ln2(x);
    look(block.ffn->shift, prefix + ".ffn", b, own.ffn_ring);
    x = x + block.ffn->forward(b, phi, own);
  }
  return sites;
}

at::Tensor PlacedTokens::row() const {
  return torch::tensor(std::vector<int64_t>(ids.begin(), ids.end()), torch::kInt64).unsqueeze(0);
}

std::int64_t PlacedTokens::at_byte(std::int64_t byte) const {
  return std::upper_bound(begins.begin(), begins.end(), byte) - begins.begin() - 1;
}

PlacedTokens place_tokens(const Tokenizer& tokenizer, std::string_view text) {
  PlacedTokens placed;
  placed.ids = tokenizer.encode(text);
  std::int64_t begin = 0;
  for (const auto id : placed.ids) {
    placed.begins.push_back(begin);
    begin += static_cast<std::int64_t>(tokenizer.piece(id).size());
  }
  return placed;
}

}  // namespace rwkvx
