// Logits to a token.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "rwkvx/generate/generate_config.h"

namespace rwkvx {

// The `index`-th number of sequence `sequence` under `seed`, uniform in [0, 1). A pure function:
// what a sequence draws does not depend on which others run beside it.
double uniform_draw(std::uint64_t seed, std::uint64_t sequence, std::uint64_t index);

// Natural log of a token's probability under the logits (V).
double log_probability(std::span<const float> logits, TokenId token);

// Draws the tokens of one sequence through the chain config.samplers, in float64. Ids whose logit
// is not finite, and banned ones, are never drawn.
class Sampler {
 public:
  // Throws ConfigError for an unknown sampler in the chain.
  Sampler(const GenerateConfig& config, std::uint64_t sequence = 0);
  // Resumes where another sampler of the same sequence ended.
  void resume(SamplerMemory memory) { memory_ = std::move(memory); }
  const SamplerMemory& memory() const { return memory_; }
  // Tokens that are never drawn.
  void ban(std::vector<TokenId> tokens);
  // logits (V) -> the next token. Throws Error where no logit is finite.
  TokenId draw(std::span<const float> logits);

 private:
  void remember(TokenId id);

  GenerateConfig config_;
  std::uint64_t sequence_;
  SamplerMemory memory_;
  std::vector<TokenId> banned_;  // sorted
  // Those of the chain that change anything.
  std::vector<std::function<void(Candidates&, const SamplerMemory&)>> steps_;
  Candidates candidates_;
};

}  // namespace rwkvx
