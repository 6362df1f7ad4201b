#include "rwkvx/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "rwkvx/base/error.h"
#include "rwkvx/base/splitmix64.h"

namespace rwkvx {
namespace {

// Sorts the likelier first, and the lower id among equals.
constexpr auto likelier = [](const auto& a, const auto& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
};

// How many of the first weights reach a share of their sum; at least one.
std::size_t reaching(const std::vector<double>& weights, double share) {
  const double wanted = share * std::accumulate(weights.begin(), weights.end(), 0.0);
  double sum = 0;
  std::size_t kept = 0;
  while (kept < weights.size() && (kept == 0 || sum < wanted)) sum += weights[kept++];
  return kept;
}

}  // namespace

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
  const bool penalties = config.repetition_penalty != 1 || config.presence_penalty != 0 ||
                         config.frequency_penalty != 0;
  for (const auto& name : config.sampler_chain()) {
    if (name == "penalties" && penalties) steps_.push_back(&Sampler::penalise);
    if (name == "temperature" && config.temperature != 1)
      steps_.push_back(&Sampler::apply_temperature);
    if (name == "top_k" && config.top_k > 0) steps_.push_back(&Sampler::keep_top_k);
    if (name == "typical" && config.typical < 1) steps_.push_back(&Sampler::keep_typical);
    if (name == "top_p" && config.top_p < 1) steps_.push_back(&Sampler::keep_top_p);
    if (name == "min_p" && config.min_p > 0) steps_.push_back(&Sampler::keep_min_p);
  }
}

TokenId Sampler::draw(std::span<const float> logits) {
  const double uniform =
      uniform_draw(static_cast<std::uint64_t>(config_.seed), sequence_, memory_.drawn++);
  candidates_.clear();
  bool any_finite = false;
  auto banned = banned_.begin();  // sorted, as the ids below are
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    while (banned != banned_.end() && *banned < id) ++banned;
    if (!std::isfinite(logits[i])) continue;
    any_finite = true;
    if (banned == banned_.end() || *banned != id) candidates_.push_back({logits[i], id});
  }
  if (candidates_.empty())
    throw Error("sampler", any_finite ? "no token is left that is not banned"
                                      : "the model gave no finite logit");
  for (const auto step : steps_) (this->*step)();

  find_weights();
  double rest = uniform * std::accumulate(weights_.begin(), weights_.end(), 0.0);
  std::size_t chosen = 0;
  while (chosen + 1 < weights_.size() && (rest -= weights_[chosen]) >= 0) ++chosen;
  remember(candidates_[chosen].id);
  return candidates_[chosen].id;
}

void Sampler::find_weights() {
  double highest = candidates_.front().logit;
  for (const auto& one : candidates_) highest = std::max(highest, one.logit);
  weights_.clear();
  for (const auto& one : candidates_) weights_.push_back(std::exp(one.logit - highest));
}

void Sampler::remember(TokenId id) {
  for (auto& [token, count] : memory_.seen) count *= config_.penalty_decay;
  memory_.seen[id] += 1;
}

void Sampler::penalise() {
  for (auto& [logit, id] : candidates_) {
    const auto found = memory_.seen.find(id);
    if (found == memory_.seen.end()) continue;
    logit = logit > 0 ? logit / config_.repetition_penalty : logit * config_.repetition_penalty;
    logit -= config_.presence_penalty + config_.frequency_penalty * found->second;
  }
}

void Sampler::apply_temperature() {
  if (config_.temperature == 0) {
    candidates_ = {*std::min_element(candidates_.begin(), candidates_.end(), likelier)};
    return;
  }
  for (auto& one : candidates_) one.logit /= config_.temperature;
}

void Sampler::keep_top_k() {
  const auto k = std::min(static_cast<std::size_t>(config_.top_k), candidates_.size());
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(k),
                    candidates_.end(), likelier);
  candidates_.resize(k);
}

void Sampler::keep_top_p() {
  std::sort(candidates_.begin(), candidates_.end(), likelier);
  find_weights();
  candidates_.resize(reaching(weights_, config_.top_p));
}

void Sampler::keep_min_p() {
  double highest = candidates_.front().logit;
  for (const auto& one : candidates_) highest = std::max(highest, one.logit);
  const double least = highest + std::log(config_.min_p);
  std::erase_if(candidates_, [&](const Candidate& one) { return one.logit < least; });
}

void Sampler::keep_typical() {
  find_weights();
  const double total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  double entropy = 0;
  for (const double weight : weights_)
    if (weight > 0) entropy -= weight / total * std::log(weight / total);
  double highest = candidates_.front().logit;
  for (const auto& one : candidates_) highest = std::max(highest, one.logit);
  const double shift = highest + std::log(total);  // logit - shift = log probability
  const auto distance = [&](const Candidate& one) { return std::abs(shift - one.logit - entropy); };
  std::sort(candidates_.begin(), candidates_.end(), [&](const auto& a, const auto& b) {
    const double x = distance(a), y = distance(b);
    return x != y ? x < y : a.id < b.id;
  });
  find_weights();
  candidates_.resize(reaching(weights_, config_.typical));
}

}  // namespace rwkvx
