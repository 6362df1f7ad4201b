#include "rwkvx/engine/engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>

#include "engine/engine_weights.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/threads.h"
#include "rwkvx/kernels/product.h"

namespace rwkvx {
namespace {

// Rows of logits that exist at a time in prefill_all().
constexpr std::int64_t kLogitRows = 32;
// Weights that each thread of a team's call reads at least, times the rows that meet them: some
// dozen microseconds, in which its beginning does not count.
constexpr std::int64_t kCallBytes = std::int64_t{1} << 19;

// Calls run(tokens of a chunk, whether it is the last), in order.
template <class Run>
void for_chunks(std::span<const Engine::Token> tokens, const Run& run) {
  while (!tokens.empty()) {
    const auto some =
        tokens.first(std::min(tokens.size(), static_cast<std::size_t>(Engine::kChunk)));
    tokens = tokens.subspan(some.size());
    run(some, tokens.empty());
  }
}

}  // namespace

struct Engine::Impl {
  Impl(const TensorFile& file, const ModelConfig& config_)
      : config(config_), weights(file, config_), call(config_), state(describe_state(config_)) {
    C = config.n_embd, V = config.vocab_size, L = config.n_layer;
  }

  // Begins a call of these rows: embeds their tokens and prepares all layers.
  void prepare(std::span<const Token> tokens, std::vector<StepPiece> pieces) {
    call.begin(std::move(pieces));
    R = call.rows();
    normal.reserve(R * C);
    for (std::int64_t i = 0; i < R; ++i) {
      const auto token = tokens[static_cast<std::size_t>(i)];
      if (token < 0 || token >= V)
        throw DataError("token " + std::to_string(token),
                        "is outside the model's vocabulary of " + std::to_string(V));
      float* row = normal.get() + i * C;
      unpack_rows(weights.embedding, token, token + 1, row);
      normalize(row, row_moments(row, C), weights.ln0[0], weights.ln0[1], 0, C, call.x() + i * C);
    }
    for (const auto& block : weights.blocks) block->prepare(call);
  }

  // Runs all layers over prepared rows, then use(worker): the head's work, if any. Few layers make
  // a call, since a thread that has a processor again joins in at the next one.
  template <class Use>
  void run(const Use& use) {
    const int threads = team_threads();
    const std::int64_t at_once =
        1 + kCallBytes * threads * L / (weights.matrix_bytes * std::max<std::int64_t>(R, 1));
    for (std::int64_t first = 0; first < L; first += at_once) {
      const auto last = std::min(L, first + at_once);
      call.set_threads(threads);
      run_team(threads, [&](const Worker& worker) {
        for (auto l = first; l < last; ++l)
          weights.blocks[static_cast<std::size_t>(l)]->run(worker, call);
        if (last == L) use(worker);
      });
    }
  }

  // ln_out of rows first .. first + count of x, to the first rows of `normal`.
  void normalize_out(const Worker& worker, std::int64_t first, std::int64_t count) {
    worker.share(count, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const float* from = call.x() + (first + i) * C;
        normalize(from, row_moments(from, C), weights.ln_out[0], weights.ln_out[1], 0, C,
                  normal.get() + i * C);
      }
    });
  }

  // logits (count, V) of rows first .. first + count of x.
  void multiply_head(const Worker& worker, std::int64_t first, std::int64_t count, float* logits) {
    normalize_out(worker, first, count);
    worker.meet();
    const auto input = call.input(worker, weights.head, normal.get(), count);
    call.meet_inputs(worker);
    call.share(worker, count, V, [&](std::int64_t begin, std::int64_t end) {
      call.multiply({{weights.head, input, logits}}, begin, end);
    });
  }

  template <class Use>
  void run_chunk(std::span<const Token> tokens, EngineState& state, const Use& use) {
    const auto count = static_cast<std::int64_t>(tokens.size());
    prepare(tokens, {{0, count, state.t, state.values.data()}});
    run(use);
    state.t += count;
  }

  ModelConfig config;
  EngineWeights weights;
  StepRun call;  // the one in progress
  std::vector<StateRow> state;
  std::int64_t C = 0, V = 0, L = 0, R = 0;
  StepBuffer normal, logits;
};

Engine::Engine(const TensorFile& file, const ModelConfig& config)
    : impl_(std::make_unique<Impl>(file, config)) {}
Engine::~Engine() = default;

const ModelConfig& Engine::config() const { return impl_->config; }
WeightType Engine::weight_type() const { return impl_->weights.type; }
std::int64_t Engine::bytes_per_token() const { return impl_->weights.matrix_bytes; }

EngineState Engine::start() const {
  EngineState state;
  state.values.resize(static_cast<std::size_t>(impl_->L * impl_->call.layer_floats()));
  float* at = state.values.data();
  for (const auto& row : impl_->state) {
    row.fill(at);
    at += row.count();
  }
  return state;
}

namespace {

// Turns a ring (H, …) so that its part 0 comes to part `by` mod H; leaves other rows as they are.
void turn_ring(const StateRow& row, std::int64_t by, std::span<float> values) {
  if (!row.ring || row.shape[0] == 0) return;
  const auto H = row.shape[0], part = row.count() / H;
  std::rotate(values.begin(), values.end() - (by % H + H) % H * part, values.end());
}

}  // namespace

PlainState Engine::export_state(const EngineState& state) const {
  PlainState plain;
  plain.t = state.t;
  const float* at = state.values.data();
  for (const auto& row : impl_->state) {
    auto& values = plain.values.emplace_back(at, at + row.count());
    at += row.count();
    turn_ring(row, -state.t, values);  // the oldest is that of position t - H, in part t mod H
  }
  return plain;
}

EngineState Engine::import_state(const PlainState& plain) const {
  EngineState state;
  state.t = plain.t;
  for (std::size_t i = 0; i < impl_->state.size(); ++i) {
    auto values = plain.values[i];
    turn_ring(impl_->state[i], plain.t, values);
    state.values.insert(state.values.end(), values.begin(), values.end());
  }
  return state;
}

void Engine::step(std::span<const Token> tokens, std::span<EngineState* const> states,
                  float* logits) {
  auto& impl = *impl_;
  std::vector<StepPiece> pieces;
  for (std::size_t i = 0; i < states.size(); ++i)
    pieces.push_back({static_cast<std::int64_t>(i), 1, states[i]->t, states[i]->values.data()});
  impl.prepare(tokens, std::move(pieces));
  impl.run([&](const Worker& worker) { impl.multiply_head(worker, 0, impl.R, logits); });
  for (auto* state : states) ++state->t;
}

void Engine::prefill(std::span<const Token> tokens, EngineState& state, float* logits) {
  auto& impl = *impl_;
  for_chunks(tokens, [&](std::span<const Token> some, bool last) {
    impl.run_chunk(some, state, [&](const Worker& worker) {
      if (last && logits != nullptr) impl.multiply_head(worker, impl.R - 1, 1, logits);
    });
  });
}

void Engine::prefill_all(std::span<const Token> tokens, EngineState& state,
                         const std::function<void(std::int64_t, std::span<const float>)>& use) {
  auto& impl = *impl_;
  impl.logits.reserve(kLogitRows * impl.V);
  std::int64_t first = 0;
  for_chunks(tokens, [&](std::span<const Token> some, bool) {
    impl.run_chunk(some, state, [](const Worker&) {});
    for (std::int64_t begin = 0; begin < impl.R; begin += kLogitRows) {
      const std::int64_t count = std::min(kLogitRows, impl.R - begin);
      run_team(team_threads(), [&](const Worker& worker) {
        impl.multiply_head(worker, begin, count, impl.logits.get());
      });
      use(first + begin, {impl.logits.get(), static_cast<std::size_t>(count * impl.V)});
    }
    first += impl.R;
  });
}

void Engine::prefill_features(
    std::span<const Token> tokens, EngineState& state,
    const std::function<void(std::int64_t, std::span<const float>)>& use) {
  auto& impl = *impl_;
  std::int64_t first = 0;
  for_chunks(tokens, [&](std::span<const Token> some, bool) {
    impl.run_chunk(some, state,
                   [&](const Worker& worker) { impl.normalize_out(worker, 0, impl.R); });
    use(first, {impl.normal.get(), static_cast<std::size_t>(impl.R * impl.C)});
    first += impl.R;
  });
}

double measure_read_seconds(std::int64_t bytes, int repeats) {
  constexpr std::int64_t kPiece = std::int64_t{16} << 20;  // in the time of a layer or two
  constexpr std::int64_t kLeast = std::int64_t{256} << 10;
  const HugeMemory memory(static_cast<std::size_t>(bytes));
  std::memset(memory.data(), 1, static_cast<std::size_t>(bytes));
  double least = std::numeric_limits<double>::infinity();
  std::atomic<std::uint64_t> sink{0};
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    for (std::int64_t begin = 0; begin < bytes; begin += kPiece)
      run_in_pieces(team_threads(), std::min(kPiece, bytes - begin), kLeast,
                    [&](std::int64_t first, std::int64_t last) {
                      sink ^= read_bytes(memory.data() + begin + first, last - first);
                    });
    least = std::min(
        least, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return least;
}

}  // namespace rwkvx
