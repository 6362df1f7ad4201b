#include "rwkvx/engine/engine.h"

#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <hwy/aligned_allocator.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include "engine/engine_weights.h"
#include "engine/matvec_kernel.h"
#include "engine/step_kernel.h"
#include "engine/team.h"
#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

// Channels and weight rows that one thread takes at least: a cache line of floats.
constexpr std::int64_t kLine = 16;
// Weight rows of one matrix product of a chunk. Fixed, so that the same products happen whatever
// the number of threads.
constexpr std::int64_t kProductRows = 128;
// Rows of logits that exist at a time in prefill_all().
constexpr std::int64_t kLogitRows = 32;

// Floats at an address that is a multiple of a cache line; grows, never shrinks.
class Buffer {
 public:
  float* get() const { return data_.get(); }
  void reserve(std::int64_t count) {
    if (count <= size_) return;
    data_ = hwy::AllocateAligned<float>(static_cast<std::size_t>(count));
    if (data_ == nullptr) throw std::bad_alloc();
    size_ = count;
  }

 private:
  hwy::AlignedFreeUniquePtr<float[]> data_;
  std::int64_t size_ = 0;
};

// What one thread needs for itself.
struct Private {
  hwy::AlignedFreeUniquePtr<std::int16_t[]> q;
  std::int64_t q_size = 0;
  std::vector<float> scale;
  Buffer unpacked;
};

// Rows that belong to one sequence.
struct Piece {
  EngineState* state;
  std::int64_t first, tokens;
};

// The features of positions t .. t + T - 1; see position_features() in ops/conv_shift.h.
void add_features(const std::string& form, std::int64_t t, std::int64_t T,
                  std::vector<double>& out) {
  for (std::int64_t i = t; i < t + T; ++i) {
    const auto position = static_cast<double>(i);
    if (form == "exp") {
      for (const double tau : {2., 8., 32., 128.}) out.push_back(std::exp(-position / tau));
      continue;
    }
    for (const bool cosine : {false, true})
      for (const double period : {8., 32., 128., 512.}) {
        const double angle = position * (2 * std::numbers::pi) / period;
        out.push_back(cosine ? std::cos(angle) : std::sin(angle));
      }
  }
}

float dot(const float* a, const float* b, std::int64_t count) {
  float sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

struct Engine::Impl {
  Impl(const TensorFile& file, const ModelConfig& config_)
      : config(config_), weights(file, config_) {
    C = config.n_embd, A = config.att_channels(), F = config.ffn_channels();
    V = config.vocab_size, L = config.n_layer;
    ring_rows[0] = config.shift.at_att() ? config.shift.history() : 0;
    ring_rows[1] = config.shift.at_ffn() ? config.shift.history() : 0;
    layer_floats = C * (2 + ring_rows[0] + ring_rows[1]) + 3 * A;
  }

  // Where a layer's parts lie in a state.
  struct Parts {
    float *att_x, *att_ring, *ffn_x, *ffn_ring, *wkv;
  };
  Parts parts(EngineState& state, std::int64_t layer) const {
    float* at = state.values.data() + layer * layer_floats;
    float* ffn = at + C * (1 + ring_rows[0]);
    return {at, at + C, ffn, ffn + C, ffn + C * (1 + ring_rows[1])};
  }

  // Makes room for rows of activations and finds what is the same in all layers.
  void prepare(std::span<const Token> tokens, bool chunk_) {
    chunk = chunk_;
    R = static_cast<std::int64_t>(tokens.size());
    for (auto* one : {&x, &z[0], &z[1], &z[2], &normal, &product, &ffn_r, &gate})
      one->reserve(R * C);
    for (auto* one : {&k, &v, &r, &y}) one->reserve(R * A);
    h.reserve(R * F);
    moments.resize(static_cast<std::size_t>(R));
    for (std::int64_t i = 0; i < R; ++i) {
      const auto token = tokens[static_cast<std::size_t>(i)];
      if (token < 0 || token >= V)
        throw DataError("token " + std::to_string(token),
                        "is outside the model's vocabulary of " + std::to_string(V));
      float* row = normal.get() + i * C;
      unpack_rows(weights.embedding, token, token + 1, row);
      normalise(row, row_moments(row, C), weights.ln0[0], weights.ln0[1], 0, C, x.get() + i * C);
    }
    const std::int64_t features = config.shift.enabled() ? config.shift.features() : 0;
    factors.clear();
    if (features == 0) return;
    phi.clear();
    for (const auto& piece : pieces)
      add_features(config.shift.pos, piece.state->t, piece.tokens, phi);
    const std::int64_t K = config.shift.kernel;
    factors.resize(static_cast<std::size_t>(2 * L * R * K));
    float* to = factors.data();
    for (const auto& layer : weights.layers)
      for (const auto* site : {&layer.att, &layer.ffn})
        for (std::int64_t i = 0; i < R; ++i)
          for (std::int64_t j = 0; j < K; ++j, ++to) {
            double m = 1;
            for (std::int64_t f = 0; site->pos_u != nullptr && f < features; ++f)
              m += static_cast<double>(site->pos_u[j * features + f]) *
                   phi[static_cast<std::size_t>(i * features + f)];
            *to = static_cast<float>(m);
          }
  }

  // The moments of all rows: a few by every worker for itself, many shared out.
  const Moments* find_moments(const Worker& worker, const float* rows) {
    if (R == 1) {
      auto& own = own_moments[static_cast<std::size_t>(worker.id)];
      own = row_moments(rows, C);
      return &own;
    }
    const auto [first, last] = worker.part(R, 1);
    for (std::int64_t i = first; i < last; ++i)
      moments[static_cast<std::size_t>(i)] = row_moments(rows + i * C, C);
    worker.meet();
    return moments.data();
  }

  // The gates of one token where they depend on all its channels.
  void find_wide_gate(const EngineSite& site, const float* a, float* out) const {
    if (site.gate_w != nullptr) {
      const std::int64_t width = C / site.gates;
      for (std::int64_t g = 0; g < site.gates; ++g) {
        const float value = sigmoid(dot(site.gate_w + g * C, a, C) + site.gate_b[g]);
        std::fill(out + g * width, out + (g + 1) * width, value);
      }
      return;
    }
    std::vector<float> down(static_cast<std::size_t>(site.rank));
    for (std::int64_t i = 0; i < site.rank; ++i)
      down[static_cast<std::size_t>(i)] = dot(site.gate_d + i * C, a, C);
    for (std::int64_t c = 0; c < C; ++c)
      out[c] = sigmoid(dot(site.gate_u + c * site.rank, down.data(), site.rank) + site.gate_b[c]);
  }

  // z <- layer norm, shift and mixes of x, all rows. `index` counts the sites.
  void mix(const Worker& worker, const EngineSite& site, std::int64_t index, bool att) {
    const Moments* found = find_moments(worker, x.get());
    if (site.has_wide_gate()) {
      const auto [first, last] = worker.part(R, 1);
      for (std::int64_t i = first; i < last; ++i) {
        float* a = normal.get() + i * C;
        normalise(x.get() + i * C, found[i], site.mix.norm_weight, site.mix.norm_bias, 0, C, a);
        find_wide_gate(site, a, gate.get() + i * C);
      }
      worker.meet();
    }
    const std::int64_t K = config.shift.kernel;
    const auto [first, last] = worker.part(C, kLine);
    for (const auto& piece : pieces) {
      const auto state = parts(*piece.state, index / 2);
      ShiftMixRows rows;
      rows.tokens = piece.tokens;
      rows.x = x.get() + piece.first * C;
      rows.moments = found + piece.first;
      if (site.pos_u != nullptr) rows.m = factors.data() + (index * R + piece.first) * K;
      if (site.has_wide_gate()) rows.gate = gate.get() + piece.first * C;
      rows.t = piece.state->t;
      rows.ring = att ? state.att_ring : state.ffn_ring;
      rows.prev = att ? state.att_x : state.ffn_x;
      for (int i = 0; i < site.mix.mixes; ++i) rows.z[i] = z[i].get() + piece.first * C;
      shift_mix_rows(site.mix, rows, first, last);
    }
    worker.meet();
  }

  // out (count, M) <- in (count, N) W^T: this worker's rows of W, the same for every matrix of as
  // many rows.
  void multiply(const Worker& worker, const WeightMatrix& matrix, const float* in,
                std::int64_t count, float* out) {
    const std::int64_t M = matrix.rows, N = matrix.columns;
    auto& own = privates[static_cast<std::size_t>(worker.id)];
    if (!chunk) {
      Activations activations{count, in, nullptr, nullptr};
      if (matrix.type == WeightType::kInt8 || matrix.type == WeightType::kInt4) {
        const std::int64_t stride = activation_stride(N);
        if (own.q_size < count * stride) {
          own.q = hwy::AllocateAligned<std::int16_t>(static_cast<std::size_t>(count * stride));
          own.q_size = count * stride;
        }
        own.scale.resize(static_cast<std::size_t>(count));
        for (std::int64_t i = 0; i < count; ++i)
          quantise_activations(in + i * N, matrix.column_scales, N, own.q.get() + i * stride,
                               &own.scale[static_cast<std::size_t>(i)]);
        activations.q = own.q.get();
        activations.scale = own.scale.data();
      }
      const auto [first, last] = worker.part(M, kLine);
      matvec_rows(matrix, first, last, activations, out, M);
      return;
    }
    const auto rows = at::from_blob(const_cast<float*>(in), {count, N});
    const auto [first, last] = worker.part(M, kProductRows);
    for (std::int64_t begin = first; begin < last; begin += kProductRows) {
      const std::int64_t some = std::min(kProductRows, last - begin);
      const float* w = reinterpret_cast<const float*>(matrix.values) + begin * N;
      if (matrix.type != WeightType::kF32) {
        own.unpacked.reserve(kProductRows * N);
        unpack_rows(matrix, begin, begin + some, own.unpacked.get());
        w = own.unpacked.get();
      }
      auto target = at::from_blob(out + begin, {count, some}, {M, 1});
      at::mm_out(target, rows, at::from_blob(const_cast<float*>(w), {some, N}).t());
    }
  }
  // The range of columns of an (R, M) result that multiply() leaves to this worker.
  Worker::Range own_part(const Worker& worker, std::int64_t M) const {
    return worker.part(M, chunk ? kProductRows : kLine);
  }

  void run_layer(const Worker& worker, std::int64_t l) {
    const auto& layer = weights.layers[static_cast<std::size_t>(l)];
    mix(worker, layer.att, 2 * l, true);
    multiply(worker, layer.key, z[0].get(), R, k.get());
    multiply(worker, layer.value, z[1].get(), R, v.get());
    multiply(worker, layer.receptance, z[2].get(), R, r.get());
    const auto channels = own_part(worker, A);
    for (const auto& piece : pieces) {
      const std::int64_t at = piece.first * A;
      wkv_rows({piece.tokens, A, layer.w, layer.u, k.get() + at, v.get() + at, r.get() + at,
                parts(*piece.state, l).wkv, y.get() + at},
               channels.first, channels.last);
    }
    worker.meet();
    multiply(worker, layer.output, y.get(), R, product.get());
    const auto own = own_part(worker, C);
    for (std::int64_t i = 0; i < R; ++i)
      add_rows(x.get() + i * C, product.get() + i * C, own.first, own.last);
    worker.meet();

    mix(worker, layer.ffn, 2 * l + 1, false);
    multiply(worker, layer.ffn_key, z[0].get(), R, h.get());
    const auto hidden = own_part(worker, F);
    for (std::int64_t i = 0; i < R; ++i) relu_square(h.get() + i * F, hidden.first, hidden.last);
    multiply(worker, layer.ffn_receptance, z[1].get(), R, ffn_r.get());
    worker.meet();
    multiply(worker, layer.ffn_value, h.get(), R, product.get());
    for (std::int64_t i = 0; i < R; ++i)
      add_gated(x.get() + i * C, ffn_r.get() + i * C, product.get() + i * C, own.first, own.last);
    worker.meet();
  }

  // Runs all layers over prepared rows, then use(worker): the head's work, if any.
  template <class Use>
  void run(const Use& use) {
    const int threads = at::get_num_threads();
    privates.resize(std::max(privates.size(), static_cast<std::size_t>(threads)));
    own_moments.resize(privates.size());
    run_team(threads, [&](const Worker& worker) {
      for (std::int64_t l = 0; l < L; ++l) run_layer(worker, l);
      use(worker);
    });
    for (const auto& piece : pieces) piece.state->t += piece.tokens;
  }

  // logits (count, V) of rows first .. first + count of x.
  void multiply_head(const Worker& worker, std::int64_t first, std::int64_t count, float* logits) {
    const auto rows = worker.part(count, 1);
    for (std::int64_t i = rows.first; i < rows.last; ++i) {
      const float* from = x.get() + (first + i) * C;
      normalise(from, row_moments(from, C), weights.ln_out[0], weights.ln_out[1], 0, C,
                normal.get() + i * C);
    }
    worker.meet();
    multiply(worker, weights.head, normal.get(), count, logits);
  }

  template <class Use>
  void run_chunk(std::span<const Token> tokens, EngineState& state, const Use& use) {
    pieces.assign(1, {&state, 0, static_cast<std::int64_t>(tokens.size())});
    prepare(tokens, /*chunk=*/true);
    run(use);
  }

  ModelConfig config;
  EngineWeights weights;
  std::int64_t C = 0, A = 0, F = 0, V = 0, L = 0, layer_floats = 0;
  std::int64_t ring_rows[2] = {};

  // Of the call in progress.
  std::int64_t R = 0;  // rows of activations
  bool chunk = false;  // many rows of one sequence: matrix times matrix
  std::vector<Piece> pieces;
  std::vector<double> phi;
  std::vector<float> factors;  // (sites, R, K)
  std::vector<Moments> moments, own_moments;
  Buffer x, z[3], normal, product, ffn_r, gate, k, v, r, y, h, logits;
  std::vector<Private> privates;
};

Engine::Engine(const TensorFile& file, const ModelConfig& config)
    : impl_(std::make_unique<Impl>(file, config)) {}
Engine::~Engine() = default;

const ModelConfig& Engine::config() const { return impl_->config; }
WeightType Engine::weight_type() const { return impl_->weights.layers.front().ffn_key.type; }
std::int64_t Engine::bytes_per_token() const { return impl_->weights.matrix_bytes; }

EngineState Engine::start() const {
  EngineState state;
  state.values.assign(static_cast<std::size_t>(impl_->L * impl_->layer_floats), 0.0f);
  for (std::int64_t l = 0; l < impl_->L; ++l) {
    float* o = impl_->parts(state, l).wkv + 2 * impl_->A;
    std::fill(o, o + impl_->A, -1e30f);
  }
  return state;
}

void Engine::step(std::span<const Token> tokens, std::span<EngineState* const> states,
                  float* logits) {
  auto& impl = *impl_;
  impl.pieces.clear();
  for (std::size_t i = 0; i < states.size(); ++i)
    impl.pieces.push_back({states[i], static_cast<std::int64_t>(i), 1});
  impl.prepare(tokens, /*chunk=*/false);
  impl.run([&](const Worker& worker) { impl.multiply_head(worker, 0, impl.R, logits); });
}

void Engine::prefill(std::span<const Token> tokens, EngineState& state, float* logits) {
  auto& impl = *impl_;
  while (!tokens.empty()) {
    const auto some = tokens.first(std::min(tokens.size(), static_cast<std::size_t>(kChunk)));
    tokens = tokens.subspan(some.size());
    impl.run_chunk(some, state, [&](const Worker& worker) {
      if (tokens.empty() && logits != nullptr) impl.multiply_head(worker, impl.R - 1, 1, logits);
    });
  }
}

void Engine::prefill_all(std::span<const Token> tokens, EngineState& state,
                         const std::function<void(std::int64_t, std::span<const float>)>& use) {
  auto& impl = *impl_;
  impl.logits.reserve(kLogitRows * impl.V);
  for (std::int64_t first = 0; !tokens.empty();) {
    const auto some = tokens.first(std::min(tokens.size(), static_cast<std::size_t>(kChunk)));
    tokens = tokens.subspan(some.size());
    impl.run_chunk(some, state, [](const Worker&) {});
    for (std::int64_t begin = 0; begin < impl.R; begin += kLogitRows) {
      const std::int64_t count = std::min(kLogitRows, impl.R - begin);
      run_team(at::get_num_threads(), [&](const Worker& worker) {
        impl.multiply_head(worker, begin, count, impl.logits.get());
      });
      use(first + begin, {impl.logits.get(), static_cast<std::size_t>(count * impl.V)});
    }
    first += impl.R;
  }
}

double measure_read_seconds(std::int64_t bytes, int repeats) {
  const HugeMemory memory(static_cast<std::size_t>(bytes));
  std::memset(memory.data(), 1, static_cast<std::size_t>(bytes));
  double least = std::numeric_limits<double>::infinity();
  std::atomic<std::uint64_t> sink{0};
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    run_team(at::get_num_threads(), [&](const Worker& worker) {
      const auto [first, last] = worker.part(bytes, 4096);
      sink ^= read_bytes(memory.data() + first, last - first);
    });
    least = std::min(
        least, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return least;
}

}  // namespace rwkvx
