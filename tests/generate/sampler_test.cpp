#include "rwkvx/generate/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
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
