// Logits to a token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "rwkvx/config/generate_config.h"
#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

// The `index`-th number of sequence `sequence` under `seed`, uniform in [0, 1). A pure function:
// what a sequence draws does not depend on which others run beside it.
double uniform_draw(std::uint64_t seed, std::uint64_t sequence, std::uint64_t index);

// Draws the tokens of one sequence: temperature, then top-k, then top-p, in float64. At equal
// logits the lower id comes first. Ids whose logit is not finite are never drawn.
class Sampler {
 public:
  Sampler(const GenerateConfig& config, std::uint64_t sequence = 0);
  // logits (V) -> the next token. Throws Error where no logit is finite.
  TokenId draw(std::span<const float> logits);

 private:
  TokenId greedy(std::span<const float> logits) const;
  GenerateConfig config_;
  std::uint64_t sequence_, drawn_ = 0;
  std::vector<TokenId> order_;         // candidates, likeliest first where order matters
  std::vector<double> probabilities_;  // of order_, not normalised
};

}  // namespace rwkvx
