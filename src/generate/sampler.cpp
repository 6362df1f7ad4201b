#include "rwkvx/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

std::uint64_t mixed(std::uint64_t x) {  // splitmix64's finaliser
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

double uniform_draw(std::uint64_t seed, std::uint64_t sequence, std::uint64_t index) {
  const std::uint64_t bits = mixed(mixed(mixed(seed) ^ sequence) ^ index);
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

Sampler::Sampler(const GenerateConfig& config, std::uint64_t sequence)
    : config_(config), sequence_(sequence) {}

TokenId Sampler::greedy(std::span<const float> logits) const {
  TokenId best = -1;
  float highest = -std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (std::isfinite(logits[i]) && (best < 0 || logits[i] > highest)) {
      highest = logits[i];
      best = static_cast<TokenId>(i);
    }
  if (best < 0) throw Error("sampler", "the model gave no finite logit");
  return best;
}

TokenId Sampler::draw(std::span<const float> logits) {
  const TokenId best = greedy(logits);
  const double uniform =
      uniform_draw(static_cast<std::uint64_t>(config_.seed), sequence_, drawn_++);
  if (config_.temperature == 0 || config_.top_k == 1) return best;

  order_.clear();
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (std::isfinite(logits[i])) order_.push_back(static_cast<TokenId>(i));
  const auto before = [&](TokenId a, TokenId b) {
    const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  const auto k = static_cast<std::size_t>(config_.top_k);
  if (k > 0 && k < order_.size()) {
    std::nth_element(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(k), order_.end(),
                     before);
    order_.resize(k);
  }
  if (k > 0 || config_.top_p < 1) std::sort(order_.begin(), order_.end(), before);

  const double highest = logits[static_cast<std::size_t>(best)];
  double total = 0;
  probabilities_.clear();
  for (const TokenId id : order_) {
    probabilities_.push_back(
        std::exp((logits[static_cast<std::size_t>(id)] - highest) / config_.temperature));
    total += probabilities_.back();
  }
  std::size_t kept = order_.size();
  if (config_.top_p < 1) {
    const double wanted = config_.top_p * total;
    double sum = 0;
    for (kept = 0; kept < order_.size() && (kept == 0 || sum < wanted); ++kept)
      sum += probabilities_[kept];
    total = sum;
  }
  double rest = uniform * total;
  for (std::size_t i = 0; i < kept; ++i) {
    rest -= probabilities_[i];
    if (rest < 0) return order_[i];
  }
  return order_[kept - 1];  // rounding used up the last bit of probability
}

}  // namespace rwkvx
