#include "rwkvx/generate/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>

#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

const std::vector<float> kLogits = {0.5f, 2.0f, -1.0f, 1.0f, 1.9f};

std::map<TokenId, double> frequencies(const GenerateConfig& config, int draws = 40000) {
  Sampler sampler(config);
  std::map<TokenId, double> counts;
  for (int i = 0; i < draws; ++i) counts[sampler.draw(kLogits)] += 1.0 / draws;
  return counts;
}

TEST(Sampler, DrawsWithTheProbabilitiesOfTheSoftmax) {
  GenerateConfig config;
  config.temperature = 0.7;
  double total = 0;
  for (const float logit : kLogits) total += std::exp(logit / 0.7);
  auto seen = frequencies(config);
  for (std::size_t i = 0; i < kLogits.size(); ++i)
    EXPECT_NEAR(seen[static_cast<TokenId>(i)], std::exp(kLogits[i] / 0.7) / total, 0.01);
}

TEST(Sampler, IsGreedyAtTemperatureZeroAndPrefersTheLowerIdAmongEquals) {
  GenerateConfig config;
  config.temperature = 0;
  EXPECT_EQ(Sampler(config).draw(kLogits), 1);
  EXPECT_EQ(Sampler(config).draw(std::vector<float>{1, 3, 3}), 1);
}

TEST(Sampler, GreedyTakesTheLikeliestThatMayBeDrawn) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float never = std::numeric_limits<float>::infinity();
  GenerateConfig config;
  config.temperature = 0;
  const auto draw = [&](const std::vector<float>& logits, std::vector<TokenId> banned = {}) {
    Sampler sampler(config);
    sampler.ban(std::move(banned));
    return sampler.draw(logits);
  };
  EXPECT_EQ(draw({nan, 1, 2, nan, 1}), 2);
  EXPECT_EQ(draw({1, never, 2, -never}), 2);
  EXPECT_EQ(draw({1, 3, 2}, {1}), 2);
  EXPECT_EQ(draw({1, 3, 2}, {2, 1}), 0);
  EXPECT_THROW(draw({1, 3}, {0, 1}), Error);
  EXPECT_THROW(draw({nan, never, -never}), Error);
  config.bias = {"2=1.5"};
  EXPECT_EQ(draw({1, 3, 2}), 2);
  config.bias.clear();
  config.repetition_penalty = 2;
  Sampler sampler(config);
  const std::vector<float> logits = {1, 3, 2};
  EXPECT_EQ(sampler.draw(logits), 1);
  EXPECT_EQ(sampler.draw(logits), 2);
  EXPECT_EQ(sampler.draw(logits), 1);  // 1.5 against 1 and 1
}

TEST(Sampler, KeepsTheLikeliestTokensOnly) {
  GenerateConfig config;
  config.top_k = 2;
  for (const auto& [id, share] : frequencies(config, 3000)) EXPECT_TRUE(id == 1 || id == 4) << id;
  config.top_k = 0;
  config.top_p = 0.6;  // the two likeliest hold 0.69, the likeliest 0.36
  for (const auto& [id, share] : frequencies(config, 3000)) EXPECT_TRUE(id == 1 || id == 4) << id;
  config.top_p = 1e-9;
  EXPECT_EQ(frequencies(config, 100).size(), 1u);
}

TEST(Sampler, KeepsTokensNearTheLikeliest) {
  GenerateConfig config;
  config.min_p = 0.5;  // id 3 is exp(-1) = 0.37 times as probable as id 1
  for (const auto& [id, share] : frequencies(config, 3000)) EXPECT_TRUE(id == 1 || id == 4) << id;
  config.min_p = 0.36;
  EXPECT_EQ(frequencies(config, 3000).size(), 3u);
}

TEST(Sampler, KeepsWhatIsAboutAsSurprisingAsItIsOnAverage) {
  // Probabilities 0.5, 0.25, 0.25: surprise ln 2, 2 ln 2, 2 ln 2; the entropy is 1.5 ln 2.
  const std::vector<float> half = {std::log(0.5f), std::log(0.25f), std::log(0.25f)};
  GenerateConfig config;
  config.typical_p = 1e-9;
  config.temperature = 2;  // changes the entropy: 0.414, 0.293, 0.293
  Sampler sampler(config);
  const auto first = sampler.draw(half);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(sampler.draw(half), first);
  // 0.8 and twenty times 0.01: the entropy, 1.1, is nearer the surprise of 0.8 than 4.6 is.
  std::vector<float> one_likely(21, std::log(0.01f));
  one_likely[7] = std::log(0.8f);
  config.temperature = 1;
  EXPECT_EQ(Sampler(config).draw(one_likely), 7);
}

TEST(Sampler, PenalisesTokensThatWereDrawn) {
  GenerateConfig config;
  config.temperature = 0;
  const auto draws = [&](int count) {
    Sampler sampler(config);
    std::vector<TokenId> ids;
    for (int i = 0; i < count; ++i) ids.push_back(sampler.draw(kLogits));
    return ids;
  };
  using Ids = std::vector<TokenId>;
  EXPECT_EQ(draws(2), (Ids{1, 1}));
  config.presence_penalty = 0.5;  // 2.0, 1.9, 1.0 -> 1.5, 1.4, 1.0
  EXPECT_EQ(draws(4), (Ids{1, 4, 1, 1}));
  config.presence_penalty = 0;
  config.frequency_penalty = 0.5;  // 2, 1.9 | 1.5, 1.9 | 1.5, 1.4 | 1, 1.4 | 1, 0.9, and id 3: 1
  EXPECT_EQ(draws(5), (Ids{1, 4, 1, 4, 1}));
  config.penalty_decay = 0;  // only the last one counts
  EXPECT_EQ(draws(4), (Ids{1, 4, 1, 4}));
  config.frequency_penalty = 0, config.penalty_decay = 1;
  config.repetition_penalty = 4;  // 2 -> 0.5, 1.9 -> 0.475, 1 -> 0.25, 0.5 -> 0.125, -1 -> -4
  EXPECT_EQ(draws(5), (Ids{1, 4, 3, 0, 1}));
  config.samplers = "temperature";
  EXPECT_EQ(draws(2), (Ids{1, 1}));
}

TEST(Sampler, AppliesTheChainInItsOrder) {
  GenerateConfig config;
  config.temperature = 10;  // flat: 0.6 of the probability takes three tokens, at 1 it takes two
  config.top_p = 0.6;
  EXPECT_EQ(frequencies(config, 3000).size(), 3u);
  config.samplers = "top_p,temperature";
  EXPECT_EQ(frequencies(config, 3000).size(), 2u);
  config.samplers = "topk";
  EXPECT_THROW(Sampler{config}, ConfigError);
  config.samplers = "top_p,,top_k";
  EXPECT_THROW(Sampler{config}, ConfigError);
}

// The samplers as they are defined, on everything sorted.
TokenId drawn_by_definition(std::span<const float> logits, const GenerateConfig& config,
                            const SamplerMemory& memory) {
  std::vector<Candidate> all;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    double logit = static_cast<double>(logits[i]);
    if (const auto seen = memory.seen.find(static_cast<TokenId>(i)); seen != memory.seen.end()) {
      logit = logit > 0 ? logit / config.repetition_penalty : logit * config.repetition_penalty;
      logit -= config.presence_penalty + config.frequency_penalty * seen->second;
    }
    all.push_back({logit / config.temperature, static_cast<TokenId>(i)});
  }
  const double highest = std::ranges::max(all, {}, &Candidate::logit).logit;
  const auto weight = [&](const Candidate& one) { return std::exp(one.logit - highest); };
  const auto total = [&] {
    double sum = 0;
    for (const auto& one : all) sum += weight(one);
    return sum;
  };
  if (config.top_k > 0 || config.top_p < 1) std::ranges::sort(all, Candidates::likelier);
  if (config.top_k > 0) all.resize(static_cast<std::size_t>(config.top_k));
  if (config.top_p < 1) {
    const double enough = config.top_p * total();
    std::size_t kept = 0;
    for (double sum = 0; kept == 0 || sum < enough;) sum += weight(all[kept++]);
    all.resize(kept);
  }
  if (config.min_p > 0)
    std::erase_if(all, [&](const auto& one) { return weight(one) < config.min_p; });
  double rest = total() * uniform_draw(static_cast<std::uint64_t>(config.seed), 0, memory.drawn);
  for (const auto& one : all)
    if ((rest -= weight(one)) < 0) return one.id;
  return all.back().id;
}

TEST(Sampler, DrawsFromManyTokensWhatTheDefinitionSays) {
  std::mt19937 random(5);
  std::normal_distribution<float> draw(-2, 2.2f);
  std::vector<GenerateConfig> configs(8);
  configs[1].temperature = 0.6;
  configs[2].top_p = 0.9;
  configs[3].top_p = 0.999, configs[3].temperature = 2;
  configs[4].top_k = 700, configs[4].top_p = 0.8;
  configs[5].min_p = 0.02, configs[5].top_p = 0.95;
  configs[6].repetition_penalty = 1.5, configs[6].presence_penalty = 0.4;
  configs[6].frequency_penalty = 0.3, configs[6].penalty_decay = 0.8, configs[6].top_p = 0.7;
  configs[7].top_p = 1e-9;
  for (std::size_t c = 0; c < configs.size(); ++c) {
    Sampler sampler(configs[c]);
    for (int step = 0; step < 60; ++step) {
      std::vector<float> logits(5003);
      for (auto& one : logits) one = draw(random);
      if (step % 3 == 0)
        for (auto& one : logits) one = std::round(one);  // many alike
      if (step % 2 == 0)
        for (int i = 0; i < 9; ++i) logits[random() % logits.size()] += 9;
      const auto wanted = drawn_by_definition(logits, configs[c], sampler.memory());
      EXPECT_EQ(sampler.draw(logits), wanted) << "settings " << c << ", step " << step;
    }
  }
}

TEST(Sampler, RepeatsItselfUnderTheSameSeedAndSequenceOnly) {
  GenerateConfig config;
  const auto run = [&](std::int64_t seed, std::uint64_t sequence) {
    config.seed = seed;
    Sampler sampler(config, sequence);
    std::vector<TokenId> ids;
    for (int i = 0; i < 50; ++i) ids.push_back(sampler.draw(kLogits));
    return ids;
  };
  EXPECT_EQ(run(1, 0), run(1, 0));
  EXPECT_NE(run(1, 0), run(2, 0));
  EXPECT_NE(run(1, 0), run(1, 1));
}

TEST(Sampler, NeverDrawsWhatIsNotFinite) {
  const float bad = std::numeric_limits<float>::quiet_NaN(),
              never = -std::numeric_limits<float>::infinity();
  Sampler sampler(GenerateConfig{});
  for (int i = 0; i < 100; ++i) EXPECT_EQ(sampler.draw(std::vector<float>{bad, never, 0.f}), 2);
  EXPECT_THROW(sampler.draw(std::vector<float>{bad, never}), Error);
}

}  // namespace
}  // namespace rwkvx
