// Logits to a token.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
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

struct TokenLogprob {
  TokenId token = 0;
  double logprob = 0;
};
// The `count` most likely ids below `vocab_size` under the logits (V), the likeliest first, of
// equal ones the lower id; natural logs of the probabilities among all V. Ids whose logit is not
// finite are left out.
std::vector<TokenLogprob> top_log_probabilities(std::span<const float> logits,
                                                std::int64_t vocab_size, std::int64_t count);

// What the draw of a token depends on beside its logits, for who draws in a sampler's place. Of a
// sampler that stays as it is meanwhile.
struct DrawRequest {
  TokenId forced = kNoToken;  // taken without drawing
  double uniform = 0;
  const AllSamplers* samplers = nullptr;  // in the order of kDefaultChain, without Typical
  const SamplerMemory* memory = nullptr;
  std::span<const TokenId> banned{};  // sorted
  const std::map<TokenId, double>* bias = nullptr;
};

// Draws the tokens of one sequence through the chain config.samplers, in float64, after
// config.bias was added to the logits. Ids whose logit is not finite, and banned ones, are never
// drawn.
class Sampler {
 public:
  // Throws ConfigError for an unknown sampler in the chain and for a bias that is none.
  Sampler(const GenerateConfig& config, std::uint64_t sequence = 0);
  // Resumes where another sampler of the same sequence ended.
  void resume(SamplerMemory memory) { memory_ = std::move(memory); }
  const SamplerMemory& memory() const { return memory_; }
  // Tokens that are never drawn.
  void ban(std::vector<TokenId> tokens);
  // logits (V) -> the next token. Throws Error where no logit is finite.
  TokenId draw(std::span<const float> logits);

  // The same elsewhere: whether a request says all that this sampler does, the request for the next
  // token, which takes its random number, and the token.
  bool requests() const { return requests_; }
  DrawRequest request();
  void remember(TokenId id);

 private:
  double next_uniform();
  TokenId draw_from_candidates(std::span<const float> logits, double uniform) const;

  GenerateConfig config_;
  std::uint64_t sequence_;
  SamplerMemory memory_;
  std::vector<TokenId> banned_;  // sorted
  std::map<TokenId, double> bias_;
  // Those of the chain that change anything.
  std::vector<std::function<void(Candidates&, const SamplerMemory&)>> steps_;
  bool requests_ = true;
  bool greedy_ = false;  // the likeliest token is drawn, if it may be
};

// In place of a token that was asked for and could not be drawn.
inline constexpr TokenId kNoFiniteLogit = -1, kAllTokensBanned = -2;
// Throws Error saying why no token can be drawn.
[[noreturn]] void refuse_to_draw(bool any_finite);

}  // namespace rwkvx
