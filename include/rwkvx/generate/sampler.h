// Logits to a token.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "rwkvx/config/generate_config.h"
#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

// The `index`-th number of sequence `sequence` under `seed`, uniform in [0, 1). A pure function:
// what a sequence draws does not depend on which others run beside it.
double uniform_draw(std::uint64_t seed, std::uint64_t sequence, std::uint64_t index);

// What a sampler knows of the tokens that it drew.
struct SamplerMemory {
  std::uint64_t drawn = 0;                   // random numbers used
  std::unordered_map<TokenId, double> seen;  // how often each token was drawn, decayed
};

// Natural log of a token's probability under the logits (V).
double log_probability(std::span<const float> logits, TokenId token);

// Draws the tokens of one sequence through the chain config.samplers, in float64. At equal logits
// the lower id comes first. Ids whose logit is not finite, and banned ones, are never drawn.
//   penalties     repetition (CTRL, arXiv 1909.05858), presence and frequency, of tokens drawn
//   temperature   divides; 0 keeps the likeliest alone
//   top_k, top_p  (nucleus, arXiv 1904.09751), min_p (arXiv 2407.01082)
//   typical       tokens whose surprise is nearest the entropy (arXiv 2202.00666)
class Sampler {
 public:
  // Throws ConfigError for a chain that names no sampler.
  Sampler(const GenerateConfig& config, std::uint64_t sequence = 0);
  // Goes on where another sampler of the same sequence ended.
  void resume(SamplerMemory memory) { memory_ = std::move(memory); }
  const SamplerMemory& memory() const { return memory_; }
  // Tokens that are never drawn.
  void ban(std::vector<TokenId> tokens);
  // logits (V) -> the next token. Throws Error where no logit is finite.
  TokenId draw(std::span<const float> logits);

 private:
  struct Candidate {
    double logit;
    TokenId id;
  };
  using Step = void (Sampler::*)();
  void penalise();
  void apply_temperature();
  void keep_top_k();
  void keep_typical();
  void keep_top_p();
  void keep_min_p();
  void find_weights();
  void remember(TokenId id);

  GenerateConfig config_;
  std::uint64_t sequence_;
  SamplerMemory memory_;
  std::vector<TokenId> banned_;        // sorted
  std::vector<Step> steps_;            // those of the chain that change anything
  std::vector<Candidate> candidates_;  // what is left
  std::vector<double> weights_;        // their probabilities, not normalised
};

}  // namespace rwkvx
