#include "rwkvx/generate/sampler.h"

#include <algorithm>
#include <cmath>

#include "rwkvx/base/error.h"
#include "rwkvx/base/splitmix64.h"
#include "rwkvx/kernels/softmax.h"

namespace rwkvx {

double uniform_draw(std::uint64_t seed, std::uint64_t sequence, std::uint64_t index) {
  const std::uint64_t bits = splitmix64(splitmix64(seed) ^ sequence, index);
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

namespace {

// What turns logits into log probabilities: log p = (logit - highest) - log_sum.
struct Normalizer {
  explicit Normalizer(std::span<const float> logits) {
    const auto found = sum_exponentials(logits.data(), static_cast<std::int64_t>(logits.size()));
    highest = static_cast<float>(found.top), log_sum = std::log(found.sum);
  }
  double operator()(float logit) const { return static_cast<double>(logit - highest) - log_sum; }
  float highest;
  double log_sum;
};

}  // namespace

double log_probability(std::span<const float> logits, TokenId token) {
  return Normalizer(logits)(logits[static_cast<std::size_t>(token)]);
}

std::vector<TokenLogprob> top_log_probabilities(std::span<const float> logits,
                                                std::int64_t vocab_size, std::int64_t count) {
  std::vector<TokenLogprob> top;
  if (count <= 0) return top;
  const Normalizer normalize(logits);
  const auto usable = logits.first(
      std::min(logits.size(), static_cast<std::size_t>(std::max<std::int64_t>(0, vocab_size))));
  for (std::size_t i = 0; i < usable.size(); ++i)
    if (std::isfinite(usable[i])) top.push_back({static_cast<TokenId>(i), normalize(usable[i])});
  const auto kept = std::min(top.size(), static_cast<std::size_t>(count));
  std::partial_sort(top.begin(), top.begin() + static_cast<std::ptrdiff_t>(kept), top.end(),
                    [](const TokenLogprob& a, const TokenLogprob& b) {
                      return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
                    });
  top.resize(kept);
  return top;
}

void Sampler::ban(std::vector<TokenId> tokens) {
  banned_ = std::move(tokens);
  std::sort(banned_.begin(), banned_.end());
}

Sampler::Sampler(const GenerateConfig& config, std::uint64_t sequence)
    : config_(config), sequence_(sequence) {
  for (const auto& [id, bias] : config.biases())
    if (std::isfinite(bias)) bias_[static_cast<TokenId>(id)] = bias;
  std::size_t last = 0;  // the place of the sampler before in the usual order
  for (const auto& name : config.sampler_chain())
    config.for_each_sampler([&](const auto& sampler) {
      if (name != sampler.kName || !sampler.active()) return;
      const auto place = kDefaultChain.find(name);
      requests_ = requests_ && sampler.kOnDevice && (steps_.empty() || place > last);
      last = place;
      if (steps_.empty()) greedy_ = sampler.kName == Temperature::kName && config.temperature == 0;
      steps_.push_back([sampler](Candidates& candidates, const SamplerMemory& memory) {
        sampler.apply(candidates, memory);
      });
    });
  greedy_ = greedy_ && bias_.empty();
}

double Sampler::next_uniform() {
  return uniform_draw(static_cast<std::uint64_t>(config_.seed), sequence_, memory_.drawn++);
}

void refuse_to_draw(bool any_finite) {
  throw Error("sampler", any_finite ? "every token is banned; remove a --ban-text"
                                    : "the model gave no finite logit");
}

DrawRequest Sampler::request() {
  return {kNoToken, next_uniform(), &config_, &memory_, banned_, &bias_};
}

TokenId Sampler::draw(std::span<const float> logits) {
  const double uniform = next_uniform();
  TokenId id = kNoToken;
  if (greedy_) {
    const auto at = find_largest(logits.data(), std::ssize(logits));
    const auto found = static_cast<TokenId>(at);
    if (at >= 0 && std::isfinite(logits[static_cast<std::size_t>(at)]) &&
        !std::binary_search(banned_.begin(), banned_.end(), found))
      id = found;
  }
  if (id == kNoToken) id = draw_from_candidates(logits, uniform);
  remember(id);
  return id;
}

TokenId Sampler::draw_from_candidates(std::span<const float> logits, double uniform) const {
  // Of the thread: as large as a vocabulary, and better left in the cache than kept by each
  // sampler.
  thread_local Candidates candidates;
  candidates.list.clear();
  bool any_finite = false;
  auto banned = banned_.begin();  // sorted, as the ids below are
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    while (banned != banned_.end() && *banned < id) ++banned;
    if (!std::isfinite(logits[i])) continue;
    any_finite = true;
    if (banned == banned_.end() || *banned != id) candidates.list.push_back({logits[i], id});
  }
  if (candidates.list.empty()) refuse_to_draw(any_finite);
  if (!bias_.empty())
    for (auto& [logit, id] : candidates.list)
      if (const auto found = bias_.find(id); found != bias_.end()) logit += found->second;
  for (const auto& step : steps_) step(candidates, memory_);

  candidates.find_weights();
  const auto& weights = candidates.weights;
  double rest = uniform * candidates.total;
  std::size_t chosen = 0;
  while (chosen + 1 < weights.size() && (rest -= weights[chosen]) >= 0) ++chosen;
  return candidates.list[chosen].id;
}

void Sampler::remember(TokenId id) {
  if (config_.penalty_decay != 1)
    for (auto& [token, count] : memory_.seen) count *= config_.penalty_decay;
  memory_.seen[id] += 1;
}

}  // namespace rwkvx
