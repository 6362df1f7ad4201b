// What the gates of a model do on a text.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

class RwkvImpl;

// One site's gate over a sequence.
struct SiteGates {
  std::string name;  // "blocks.0.att"
  at::Tensor gate;   // (T, C), 0 to 1
  at::Tensor share;  // (T), how large what the shift adds is, beside its input (Euclidean norms)
};

// Gates of a sequence from an empty state, tokens (1, T) int64, in the order blocks.0.att,
// blocks.0.ffn, blocks.1.att …; sites without a shift are left out.
std::vector<SiteGates> read_gates(RwkvImpl& model, const at::Tensor& tokens);

// A text as tokens, and where in the text each begins (bytes).
struct PlacedTokens {
  std::vector<TokenId> ids;
  std::vector<std::int64_t> begins;
  at::Tensor row() const;  // (1, T) int64
  // The token that holds a byte.
  std::int64_t at_byte(std::int64_t byte) const;
};
PlacedTokens place_tokens(const Tokenizer& tokenizer, std::string_view text);

}  // namespace rwkvx
