// Tokens drawn by the body of the device's kernel, run on the CPU, against the sampler.
#include "model/draw_on_device.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/generate/generator.h"
#include "rwkvx/generate/language_model.h"
#include "rwkvx/model/module_model.h"
#include "support/random_model.h"

namespace rwkvx {
namespace {

constexpr std::int64_t kVocab = 707, kUsable = 700;

at::Tensor random_logits(std::int64_t rows) {
  auto logits = torch::randn({rows, kVocab}) * 3;
  logits[1] = (logits[1] * 2).round() / 2;  // many alike
  logits[2].fill_(-0.0f);
  logits[2][5] = 0.0f;
  logits[3][17] = 30;  // next to no other
  logits[4].slice(0, 100, 600).fill_(-std::numeric_limits<float>::infinity());
  logits[4][650] = std::numeric_limits<float>::quiet_NaN();
  return logits.contiguous();
}

std::span<const float> row_of(const at::Tensor& logits, std::int64_t row) {
  return {logits.const_data_ptr<float>() + row * logits.size(1),
          static_cast<std::size_t>(logits.size(1))};
}

GenerateConfig with(double temperature, std::int64_t top_k = 0, double top_p = 1, double min_p = 0,
                    double repetition = 1, double presence = 0, double frequency = 0,
                    std::vector<std::string> bias = {}) {
  GenerateConfig config;
  config.temperature = temperature, config.top_k = top_k, config.top_p = top_p;
  config.min_p = min_p, config.repetition_penalty = repetition;
  config.presence_penalty = presence, config.frequency_penalty = frequency;
  config.penalty_decay = 0.9;
  config.bias = std::move(bias);
  return config;
}

const std::vector<GenerateConfig> kConfigs = {
    with(1),
    with(0),
    with(0.7),
    with(1, 1),
    with(1.3, 5),
    with(1, 100000),
    with(1, 0, 0.9),
    with(2, 0, 0.4),
    with(1, 0, 1e-9),
    with(1, 0, 1, 0.2),
    with(1, 0, 1, 1),
    with(0.9, 40, 0.8, 0.05),
    with(1, 0, 1, 0, 1.5, 0.3, 0.2),
    with(0, 0, 1, 0, 1, 100, 0),
    with(0.8, 20, 0.95, 0.02, 1.1, 0.2, 0.1, {"3=4", "17=-40", "699=2.5"}),
};

TEST(DrawOnDevice, DrawsWhatTheSamplerDraws) {
  torch::manual_seed(5);
  const std::int64_t R = 7;
  const std::vector<TokenId> banned{0, 3, 9, 400, 699};
  for (std::size_t c = 0; c < kConfigs.size(); ++c) {
    std::vector<Sampler> here, there;
    for (std::int64_t row = 0; row < R; ++row)
      for (auto* all : {&here, &there}) {
        all->emplace_back(kConfigs[c], static_cast<std::uint64_t>(row));
        all->back().ban(row % 2 == 0 ? banned : std::vector<TokenId>());
        ASSERT_TRUE(all->back().requests());
      }
    for (int step = 0; step < 12; ++step) {
      const auto logits = random_logits(R);
      std::vector<DrawRequest> requests;
      for (auto& sampler : there) requests.push_back(sampler.request());
      std::vector<TokenLogprob> drawn(R);
      draw_on_device(logits, requests, kUsable, drawn);
      for (std::int64_t row = 0; row < R; ++row) {
        const auto i = static_cast<std::size_t>(row);
        const auto all = row_of(logits, row);
        const auto wanted = here[i].draw(all.first(kUsable));
        EXPECT_EQ(drawn[i].token, wanted)
            << "settings " << c << ", step " << step << " row " << row;
        there[i].remember(wanted);
        if (row == 4) continue;  // has no probabilities: NaN
        EXPECT_NEAR(drawn[i].logprob, log_probability(all, wanted), 1e-9);
      }
    }
  }
}

TEST(DrawOnDevice, TakesWhatIsForced) {
  torch::manual_seed(6);
  const auto logits = random_logits(5);
  std::vector<DrawRequest> requests(5);
  for (std::size_t i = 0; i < 5; ++i) requests[i].forced = static_cast<TokenId>(100 * i + 7);
  std::vector<TokenLogprob> drawn(5);
  draw_on_device(logits, requests, kUsable, drawn);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(drawn[i].token, requests[i].forced);
    EXPECT_NEAR(drawn[i].logprob,
                log_probability(row_of(logits, static_cast<std::int64_t>(i)), drawn[i].token),
                1e-9);
  }
}

TEST(DrawOnDevice, SaysWhyNothingCanBeDrawn) {
  const auto nan = std::numeric_limits<float>::quiet_NaN();
  for (const double temperature : {0.0, 1.0}) {
    Sampler none(with(temperature)), banned(with(temperature)), some(with(temperature));
    banned.ban({0, 1, 2}), some.ban({0, 2});
    const auto logits =
        torch::tensor({nan, nan, nan, 1.0f, 1.0f, 2.0f, 0.5f, 1.0f, 4.0f, 4.0f, 4.0f, 9.0f})
            .view({3, 4});
    const DrawRequest requests[] = {none.request(), banned.request(), some.request()};
    TokenLogprob drawn[3];
    draw_on_device(logits, requests, 3, drawn);
    EXPECT_EQ(drawn[0].token, kNoFiniteLogit);
    EXPECT_EQ(drawn[1].token, kAllTokensBanned);
    EXPECT_EQ(drawn[2].token, 1);
  }
}

TEST(DrawOnDevice, SamplersInAnotherOrderStayOnTheProcessor) {
  GenerateConfig config = with(0.7, 5, 0.9);
  config.samplers = "top_p,top_k,temperature";
  EXPECT_FALSE(Sampler(config).requests());
  config.samplers = "temperature,top_k,top_p";
  EXPECT_TRUE(Sampler(config).requests());
  config.samplers = "top_k,typical,temperature";
  EXPECT_FALSE(Sampler(config).requests());
  config.temperature = 1;  // does nothing
  EXPECT_TRUE(Sampler(config).requests());
  config.typical_p = 0.5;
  EXPECT_FALSE(Sampler(config).requests());
}

std::unique_ptr<LanguageModel> open_modules(const TensorFile& file, const ModelConfig& config,
                                            const std::string&, const std::string&) {
  return open_module_model(file, config, c10::Device(c10::kCPU));
}

// The same texts, whoever draws them: alone and together, with alternatives, which the processor
// draws, and with a beginning that is forced.
TEST(DrawOnDevice, TextsAreThoseOfTheEngine) {
  const RandomModel model;
  open_on_device = open_modules;
  const auto device = model.open(1);
  open_on_device = nullptr;
  for (auto config : {with(1), with(0.8, 20, 0.95, 0.02, 1.1, 0.2, 0.1), with(0)}) {
    config.max_new_tokens = 30, config.seed = 3;
    for (const bool forced : {false, true}) {
      config.prefix = forced ? "once" : "";
      std::vector<Continuation> texts[2];
      for (auto* generator : {model.generator.get(), device.get()}) {
        auto& own = texts[generator == device.get() ? 1 : 0];
        own.push_back(generator->generate("the fox", config));
        for (const std::int64_t top : {0, 2}) {
          std::vector<Continuation> found(5);
          int left = 2;
          generator->generate_many(
              4, config,
              [&]() -> std::optional<Generator::Request> {
                if (left-- == 0) return std::nullopt;
                return Generator::Request{"a bird", static_cast<std::uint64_t>(10 * left),
                                          left == 1 ? 3 : 2};
              },
              [&](std::int64_t request, std::int64_t sample, const Continuation& one) {
                found[static_cast<std::size_t>(request * 3 + sample)] = one;
              },
              [](std::int64_t, std::int64_t, const DrawnToken&) {}, top);
          own.insert(own.end(), found.begin(), found.end());
        }
      }
      for (std::size_t i = 0; i < texts[0].size(); ++i) {
        EXPECT_EQ(texts[1][i].text, texts[0][i].text) << i;
        EXPECT_EQ(texts[1][i].ended_by, texts[0][i].ended_by);
        EXPECT_NEAR(texts[1][i].logprob, texts[0][i].logprob, 1e-3);
      }
    }
  }
}

}  // namespace
}  // namespace rwkvx
