#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>

#include "rwkvx/base/error.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "rwkvx/cores/names.h"
#include "rwkvx/engine/engine.h"
#include "rwkvx/model/training_pass.h"
#include "rwkvx/ops/threads.h"
#include "study/probes.h"

namespace rwkvx {
namespace {

using nlohmann::ordered_json;

constexpr std::int64_t kDecoded = 32;  // tokens per measurement
constexpr std::int64_t kSteps = 15;    // training steps of every variant

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<std::int64_t> some_tokens(std::int64_t count, std::int64_t vocab_size) {
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(count));
  std::uint64_t random = 1;
  for (auto& token : tokens) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    token = static_cast<std::int64_t>((random >> 33) % static_cast<std::uint64_t>(vocab_size));
  }
  return tokens;
}

// One model in its three ways of running.
class Subject {
 public:
  explicit Subject(const TrainedModel& trained)
      : model_(trained.model), config_(trained.model->config()) {
    engine_ = std::make_unique<Engine>(open_tensors(trained.checkpoint / kWeightsFile), config_);
    for (auto& parameter : model_->parameters())
      parameter.mutable_grad() = at::zeros_like(parameter);
  }
  double forward(const std::vector<std::int64_t>& tokens) {
    const torch::NoGradGuard no_grad;
    const auto row = torch::tensor(tokens, torch::kInt64).unsqueeze(0);
    auto state = model_->start(1);
    return seconds_of([&] { model_->features(row, state); });
  }
  double train(const std::vector<std::int64_t>& tokens) {
    const auto gradients = gradients_of(tokens, /*rows=*/1);
    if (tokens.size() <= 4096) gradients();  // touches the buffers' memory once
    return seconds_of(gradients);
  }
  // Gradients of a batch of `rows` sequences.
  double step(const std::vector<std::int64_t>& tokens, std::int64_t rows) {
    if (!step_) step_ = gradients_of(tokens, rows);
    return seconds_of(step_);
  }
  // Of one token after `tokens`: the median of some.
  double decode(const std::vector<std::int64_t>& tokens) {
    auto state = engine_->start();
    const std::vector<Engine::Token> prompt(tokens.begin(), tokens.end());
    engine_->prefill(prompt, state, nullptr);
    return step_seconds(1, &state);
  }
  double batch(std::int64_t sequences) { return step_seconds(sequences, nullptr); }
  double weights_bytes() const { return static_cast<double>(engine_->bytes_per_token()); }
  double state_bytes() const {
    return static_cast<double>(engine_->start().values.size() * sizeof(float));
  }

 private:
  // Computes the gradients of a batch as training does: fused, or by the modules where the fused
  // pass does not cover the model.
  std::function<void()> gradients_of(const std::vector<std::int64_t>& tokens, std::int64_t rows) {
    const auto T = static_cast<std::int64_t>(tokens.size()) / rows;
    if (TrainingPass::supports(config_)) {
      const auto pass = std::make_shared<TrainingPass>(*model_, rows * T, T, TrainingPassOptions());
      return [pass, tokens, rows, T] {
        pass->loss_and_gradients(tokens.data(), tokens.data(), rows, T, /*scale=*/1);
      };
    }
    return [this, ids = torch::tensor(tokens, torch::kInt64).view({rows, T})] {
      auto state = model_->start(ids.size(0));
      const auto logits = model_->forward(ids, state);  // (B, T, V)
      at::cross_entropy_loss(logits.flatten(0, 1), ids.flatten()).backward();
    };
  }
  double step_seconds(std::int64_t sequences, EngineState* given) {
    const auto count = static_cast<std::size_t>(sequences);
    std::vector<EngineState> own(given == nullptr ? count : 0, engine_->start());
    std::vector<EngineState*> states;
    if (given != nullptr) states.push_back(given);
    for (auto& one : own) states.push_back(&one);
    std::vector<float> logits(count * static_cast<std::size_t>(config_.vocab_size));
    const auto tokens = some_tokens(sequences * kDecoded, config_.vocab_size);
    std::vector<double> times;
    std::vector<Engine::Token> now(count);
    for (std::int64_t i = 0; i < kDecoded; ++i) {
      for (std::size_t k = 0; k < count; ++k)
        now[k] = static_cast<Engine::Token>(tokens[static_cast<std::size_t>(i) * count + k]);
      times.push_back(seconds_of([&] { engine_->step(now, states, logits.data()); }));
    }
    return median(std::move(times));
  }
  Rwkv model_;
  ModelConfig config_;
  std::unique_ptr<Engine> engine_;
  std::function<void()> step_;
};

}  // namespace

// Seconds of forward passes, training steps and decoded tokens by length, batch and threads.
ordered_json measure_complexity(const MeasureInput& input) {
  const auto& models = input.models;
  const auto& study = input.study;
  const auto& base = input.base;
  std::vector<std::pair<std::string, std::unique_ptr<Subject>>> subjects, all;
  for (const auto& trained : models) {
    const bool both = trained.variant == kBaseline || trained.variant == kEnhanced;
    if (both) subjects.emplace_back(trained.variant, std::make_unique<Subject>(trained));
    all.emplace_back(trained.variant, std::make_unique<Subject>(trained));
  }
  const auto vocab_size = models.front().model->config().vocab_size;
  const int threads = at::get_num_threads();
  ordered_json result = {{"lengths", study.lengths}, {"threads", threads}};
  for (const auto& [name, subject] : subjects)
    result["bytes"][name] = {{"weights", subject->weights_bytes()},
                             {"state", subject->state_bytes()}};
  auto times = ordered_json::object();
  for (const auto length : study.lengths) {
    const auto tokens = some_tokens(length, vocab_size);
    // The first repetition warms up and is not kept.
    for (std::int64_t repeat = -1; repeat < study.repeats; ++repeat)
      for (const auto& [name, subject] : subjects) {
        const double seconds[] = {subject->forward(tokens), subject->train(tokens),
                                  subject->decode(tokens)};
        if (repeat < 0) continue;
        const char* const kinds[] = {"forward", "train", "decode"};
        for (int kind = 0; kind < 3; ++kind)
          times[kinds[kind]][name][std::to_string(length)].push_back(seconds[kind]);
      }
  }
  result["seconds"] = times;
  const auto batch = some_tokens(base.train.batch_size * base.train.ctx_len, vocab_size);
  for (std::int64_t repeat = -1; repeat < kSteps; ++repeat)
    for (const auto& [name, subject] : all) {
      const double seconds = subject->step(batch, base.train.batch_size);
      if (repeat >= 0) result["steps"][name].push_back(seconds);
    }
  auto batches = ordered_json::array();
  for (const auto count : study.threads) {
    set_threads(count);
    for (const auto sequences : study.batches) {
      ordered_json row = {{"threads", count}, {"batch", sequences}};
      for (std::int64_t repeat = -1; repeat < study.repeats; ++repeat)
        for (const auto& [name, subject] : subjects) {
          const double seconds = subject->batch(sequences);
          if (repeat >= 0) row[name].push_back(seconds);
        }
      batches.push_back(row);
    }
  }
  set_threads(threads);
  result["batches"] = batches;
  return result;
}

}  // namespace rwkvx
