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

// Draws the tokens of one sequence through the chain config.samplers, in float64. At equal logits
// the lower id comes first. Ids whose logit is not finite are never drawn.
//   penalties    repetition (CTRL, arXiv 1909.05858), presence and frequency, of tokens drawn
//   before temperature  divides; 0 keeps the likeliest alone top_k, top_p (nucleus, arXiv
//   1904.09751), min_p (arXiv 2407.01082) typical      tokens whose surprise is nearest the entropy
//   (arXiv 2202.00666)
class Sampler {
 public:
  // Throws ConfigError for a chain that names no sampler.
  Sampler(const GenerateConfig& config, std::uint64_t sequence = 0);
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
  std::uint64_t sequence_, drawn_ = 0;
  std::vector<Step> steps_;                   // those of the chain that change anything
  std::vector<Candidate> candidates_;         // what is left
  std::vector<double> weights_;               // their probabilities, not normalised
  std::unordered_map<TokenId, double> seen_;  // drawn before: how often, decayed
};

}  // namespace rwkvx
