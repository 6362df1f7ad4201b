#include "rwkvx/generate/sampler.h"

#include <algorithm>
#include <cmath>

#include "rwkvx/base/error.h"
#include "rwkvx/base/splitmix64.h"

namespace rwkvx {

double uniform_draw(std::uint64_t seed, std::uint64_t sequence, std::uint64_t index) {
  const std::uint64_t bits = splitmix64(splitmix64(seed) ^ sequence, index);
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

double log_probability(std::span<const float> logits, TokenId token) {
  float highest = -INFINITY;
  for (const float logit : logits) highest = std::max(highest, logit);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - highest));
  return static_cast<double>(logits[static_cast<std::size_t>(token)] - highest) - std::log(sum);
}

void Sampler::ban(std::vector<TokenId> tokens) {
  banned_ = std::move(tokens);
  std::sort(banned_.begin(), banned_.end());
}

Sampler::Sampler(const GenerateConfig& config, std::uint64_t sequence)
    : config_(config), sequence_(sequence) {
  for (const auto& name : config.sampler_chain())
    config.for_each_sampler([&](const auto& sampler) {
      if (name != sampler.kName || !sampler.active()) return;
      steps_.push_back([sampler](Candidates& candidates, const SamplerMemory& memory) {
        sampler.apply(candidates, memory);
      });
    });
}

TokenId Sampler::draw(std::span<const float> logits) {
  const double uniform =
      uniform_draw(static_cast<std::uint64_t>(config_.seed), sequence_, memory_.drawn++);
  candidates_.list.clear();
  bool any_finite = false;
  auto banned = banned_.begin();  // sorted, as the ids below are
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    while (banned != banned_.end() && *banned < id) ++banned;
    if (!std::isfinite(logits[i])) continue;
    any_finite = true;
    if (banned == banned_.end() || *banned != id) candidates_.list.push_back({logits[i], id});
  }
  if (candidates_.list.empty())
    throw Error("sampler", any_finite ? "every token is banned; remove a --ban-text"
                                      : "the model gave no finite logit");
  for (const auto& step : steps_) step(candidates_, memory_);

  candidates_.find_weights();
  const auto& weights = candidates_.weights;
  double rest = uniform * candidates_.total_weight();
  std::size_t chosen = 0;
  while (chosen + 1 < weights.size() && (rest -= weights[chosen]) >= 0) ++chosen;
  const auto id = candidates_.list[chosen].id;
  remember(id);
  return id;
}

void Sampler::remember(TokenId id) {
  for (auto& [token, count] : memory_.seen) count *= config_.penalty_decay;
  memory_.seen[id] += 1;
}

}  // namespace rwkvx
