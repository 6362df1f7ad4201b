#include "cores/rwkv4/names.h"

#include <algorithm>
#include <array>

#include "cores/shift/layout.h"
#include "rwkvx/cores/names.h"

namespace rwkvx::rwkv4 {

bool recognizes(std::span<const TensorView> tensors) { return rwkv_version(tensors) == "4"; }

std::string official_name(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kParts{{
      {"embeddings", "emb"},
      {"pre_ln", "ln0"},
      {"attention", "att"},
      {"feed_forward", "ffn"},
      {"time_mix_key", "time_mix_k"},
      {"time_mix_value", "time_mix_v"},
      {"time_mix_receptance", "time_mix_r"},
  }};
  if (!name.starts_with("blocks.") && !name.starts_with("embeddings.")) return std::string(name);
  std::string official;
  for (std::size_t begin = 0; begin <= name.size();) {
    const auto end = std::min(name.find('.', begin), name.size());
    auto part = name.substr(begin, end - begin);
    for (const auto& [converted, own] : kParts)
      if (part == converted) {
        part = own;
        break;
      }
    if (begin > 0) official += '.';
    official += part;
    begin = end + 1;
  }
  return official;
}

void infer(const TensorFile& file, ModelConfig& config) {
  config.dim_att = tensor_dimension(file, "blocks.0.att.key.weight", 0, 2);
  config.dim_ffn = tensor_dimension(file, "blocks.0.ffn.key.weight", 0, 2);
  infer_shift(file, "blocks.0.att.shift.", "blocks.0.ffn.shift.", config);
}

}  // namespace rwkvx::rwkv4
