#include "rwkvx/engine/engine_bench.h"

#include <chrono>
#include <cmath>
#include <memory>

#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/memory.h"
#include "rwkvx/base/threads.h"
#include "rwkvx/cores/parameters.h"
#include "rwkvx/cores/step.h"
#include "rwkvx/engine/engine.h"
#include "rwkvx/engine/quantize.h"
#include "rwkvx/formats/safetensors.h"
#include "rwkvx/kernels/product.h"
#include "rwkvx/kernels/team.h"

namespace rwkvx {
namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Uniform numbers that are cheap to make: the weights' values do not matter for speed, but sums of
// them must stay finite.
class Numbers {
 public:
  float next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(static_cast<std::int32_t>(state_ >> 33)) * 0x1p-30f - 1.0f;
  }

 private:
  std::uint64_t state_ = 1;
};

void write_random_weights(const ModelConfig& config, const std::filesystem::path& path) {
  Numbers numbers;
  std::vector<std::vector<float>> values;
  std::vector<TensorView> views;
  for (const auto& row : describe_parameters(config)) {
    auto& one = values.emplace_back(static_cast<std::size_t>(row.count()));
    const float scale = row.matrix ? 1 / std::sqrt(static_cast<float>(row.inputs())) : 0.1f;
    const float center = row.part == kNormPart ? static_cast<float>(row.start.number) : 0.0f;
    for (auto& value : one) value = scale * numbers.next() + center;
    views.push_back({row.name, DType::kF32, row.shape, std::as_bytes(std::span(one))});
  }
  write_safetensors(path, views);
}

// The matrix products of a prefill of T tokens in chunks, all layers and the last token's head, by
// the engine's kernels for float32 and nothing else.
class PrefillProducts {
 public:
  PrefillProducts(const ModelConfig& config, std::int64_t T) : T_(T) {
    std::int64_t widest = 0;
    for (const auto& row : describe_parameters(config)) {
      if (!row.matrix || row.part == kEmbeddingPart) continue;
      const bool head = row.part == kHeadPart;
      const std::vector<float> ones(static_cast<std::size_t>(row.count()), 1.0f);
      matrices_.push_back({PanelMatrix({.type = WeightType::kF32,
                                        .rows = row.outputs(),
                                        .columns = row.inputs(),
                                        .values = reinterpret_cast<const std::byte*>(ones.data())}),
                           head ? 1 : T});
      widest = std::max({widest, row.outputs(), row.inputs()});
    }
    const auto rows = std::min(T, Engine::kChunk);
    in_.assign(static_cast<std::size_t>(rows * widest), 1.0f);
    out_.resize(in_.size());
  }
  double seconds() {
    const auto start = Clock::now();
    for (std::int64_t begin = 0; begin < T_; begin += Engine::kChunk)
      run_team(team_threads(), [&](const Worker& worker) {
        for (const auto& one : matrices_) {
          const auto rows = std::min(one.tokens - begin, Engine::kChunk);
          const std::int64_t M = one.weights.view.rows;
          if (rows <= 0) continue;
          worker.share(M, kTilesUnit, [&](std::int64_t first, std::int64_t last) {
            multiply_panels(one.weights.view, first, last, {rows, in_.data()}, out_.data(), M);
          });
        }
      });
    return since(start);
  }

 private:
  struct Matrix {
    PanelMatrix weights;
    std::int64_t tokens;
  };
  std::int64_t T_;
  std::vector<Matrix> matrices_;
  std::vector<float> in_, out_;
};

struct Subject {
  EngineBenchSeries series;
  std::unique_ptr<Engine> engine;
  EngineState state;
  std::vector<float> logits;
};

Engine::Token some_token(std::int64_t i, std::int64_t vocab_size) {
  return static_cast<Engine::Token>(i * 7919 % vocab_size);
}

// Whether a round has decoded enough: this many tokens in so many seconds.
bool enough(const EngineBenchOptions& options, std::int64_t tokens, double seconds) {
  constexpr std::int64_t kTokens = 30;
  constexpr double kSeconds = 0.25;
  if (options.tokens > 0) return tokens >= options.tokens;
  return tokens >= kTokens && seconds >= kSeconds;
}

// Decodes with all subjects in turns of about kTurn seconds, so that what else happens on the
// machine meets them alike.
constexpr double kTurn = 0.03;
void measure_decoding(std::vector<Subject>& subjects, const EngineBenchOptions& options,
                      double bandwidth) {
  std::vector<std::int64_t> done(subjects.size(), 0);
  std::vector<double> spent(subjects.size(), 0.0);
  for (auto& subject : subjects) subject.series.latencies.emplace_back();
  for (bool more = true; more && !interrupted();) {
    more = false;
    for (std::size_t i = 0; i < subjects.size(); ++i) {
      auto& subject = subjects[i];
      EngineState* const state[] = {&subject.state};
      const auto step = [&] {
        const auto token = some_token(done[i], subject.engine->config().vocab_size);
        const auto begin = Clock::now();
        subject.engine->step({&token, 1}, state, subject.logits.data());
        return since(begin);
      };
      const auto ended = [&] { return enough(options, done[i], spent[i]); };
      if (!ended()) step();  // finds the weights in the cache, where they fit
      for (double turn = 0; turn < kTurn && !ended(); ++done[i]) {
        const double seconds = step();
        subject.series.latencies.back().push_back(seconds);
        turn += seconds;
        spent[i] += seconds;
      }
      more = more || !ended();
    }
  }
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    auto& series = subjects[i].series;
    const double speed = static_cast<double>(done[i]) / spent[i];
    series.tokens_per_second.push_back(speed);
    series.share_of_bandwidth.push_back(speed * static_cast<double>(series.bytes_per_token) /
                                        bandwidth);
  }
}

// Batches and prompts.
void measure_many(Subject& subject, const EngineBenchOptions& options) {
  auto& engine = *subject.engine;
  const auto V = engine.config().vocab_size;
  if (options.batch > 0) {
    std::vector<EngineState> states(static_cast<std::size_t>(options.batch), engine.start());
    std::vector<EngineState*> pointers;
    std::vector<Engine::Token> tokens;
    for (auto& one : states) {
      tokens.push_back(some_token(static_cast<std::int64_t>(tokens.size()), V));
      pointers.push_back(&one);
    }
    std::vector<float> logits(static_cast<std::size_t>(options.batch * V));
    engine.step(tokens, pointers, logits.data());
    std::int64_t steps = 0;
    double seconds = 0;
    // A fifth of the steps of one sequence, for as long.
    for (const auto begin = Clock::now(); steps < 2 || !enough(options, 5 * steps, seconds);
         seconds = since(begin), ++steps)
      engine.step(tokens, pointers, logits.data());
    subject.series.batch_per_second.push_back(static_cast<double>(steps * options.batch) / seconds);
  }
  if (options.prompt > 0) {
    std::vector<Engine::Token> tokens;
    for (std::int64_t i = 0; i < options.prompt; ++i) tokens.push_back(some_token(i, V));
    auto fresh = engine.start();
    const auto begin = Clock::now();
    engine.prefill(tokens, fresh, subject.logits.data());
    subject.series.prefill_per_second.push_back(static_cast<double>(options.prompt) / since(begin));
  }
}

}  // namespace

EngineBench bench_engine(const EngineBenchOptions& options) {
  const TemporaryFolder folder;
  EngineBench result;
  std::vector<Subject> subjects;
  const auto add = [&](const std::string& kind, const ModelConfig& config,
                       const std::function<TensorFile()>& open) {
    Subject subject;
    subject.series.kind = kind;
    const double before = resident_memory_bytes();
    const auto file = open();
    subject.series.file_bytes = static_cast<std::int64_t>(file.stored_bytes());
    subject.engine = std::make_unique<Engine>(file, config);
    subject.series.type = subject.engine->weight_type();
    subject.series.bytes_per_token = subject.engine->bytes_per_token();
    subject.state = subject.engine->start();
    subject.logits.resize(static_cast<std::size_t>(config.vocab_size));
    EngineState* const state[] = {&subject.state};
    const Engine::Token token = 0;
    subject.engine->step({&token, 1}, state, subject.logits.data());
    subject.series.resident_bytes = resident_memory_bytes() - before;
    subjects.push_back(std::move(subject));
  };
  if (options.source) {
    add("checkpoint", options.model, [&] { return options.source->file; });
  } else {
    for (const auto& kind : options.kinds) {
      auto config = options.model;
      if (kind == "baseline") config.shift.kind = ShiftKind::kNone;
      const auto original = folder.path() / (kind + ".safetensors");
      write_random_weights(config, original);
      for (const auto type : options.types) {
        if (interrupted()) return result;
        const auto path = folder.path() / (kind + "-" + std::string(weight_type_name(type)));
        if (type == WeightType::kF32)
          std::filesystem::create_hard_link(original, path);
        else
          write_quantized(open_tensors(original), config, type, path);
        add(kind, config, [&] { return open_tensors(path); });
      }
      std::filesystem::remove(original);
    }
  }
  std::unique_ptr<PrefillProducts> products;
  if (options.prompt > 0)
    products = std::make_unique<PrefillProducts>(options.model, options.prompt);
  for (std::int64_t round = 0; round <= options.rounds && !interrupted(); ++round) {
    constexpr std::int64_t kBytes = std::int64_t{512} << 20;
    result.bandwidth.push_back(static_cast<double>(kBytes) / measure_read_seconds(kBytes, 5));
    if (products != nullptr)
      result.products_per_second.push_back(static_cast<double>(options.prompt) /
                                           products->seconds());
    measure_decoding(subjects, options, result.bandwidth.back());
    for (auto& subject : subjects) measure_many(subject, options);
    if (round > 0) continue;
    // The first round pays for warming up.
    result.bandwidth.clear();
    result.products_per_second.clear();
    for (auto& subject : subjects) {
      auto& one = subject.series;
      for (auto* list : {&one.tokens_per_second, &one.share_of_bandwidth, &one.batch_per_second,
                         &one.prefill_per_second})
        list->clear();
      one.latencies.clear();
    }
  }
  for (auto& subject : subjects) result.series.push_back(std::move(subject.series));
  return result;
}

}  // namespace rwkvx
