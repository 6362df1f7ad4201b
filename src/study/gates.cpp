#include "rwkvx/study/gates.h"

#include <torch/types.h>

#include <algorithm>

#include "rwkvx/model/rwkv.h"

namespace rwkvx {

std::vector<SiteGates> read_gates(RwkvImpl& model, const at::Tensor& tokens) {
  const torch::NoGradGuard no_grad;
  auto state = model.start(tokens.size(0));
  std::vector<SiteGates> sites;
  model.features(tokens, state, [&](const SiteView& view) {
    const auto share = view.added.norm(2, -1) / view.input.norm(2, -1).clamp_min(1e-12);  // (1, T)
    sites.push_back({view.name, view.gate.squeeze(0), share.squeeze(0)});
  });
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
