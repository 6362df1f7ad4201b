#include "rwkvx/model/training_pass.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "rwkvx/kernels/activation.h"
#include "rwkvx/kernels/norm.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/modules/core_modules.h"
#include "rwkvx/modules/shift.h"

namespace rwkvx {
namespace {

// Floats of one activation of a group of sequences that goes through a block together. Smaller
// groups stay in cache between operators, but make slower matrix products: measured at C = 768,
// 1 << 20 was the faster by a few per cent.
constexpr int64_t kGroupFloats = 1 << 20;
// Floats of the logits that exist at a time: every piece reads and writes the head's gradient.
constexpr int64_t kLogitFloats = 1 << 25;

float* data(const at::Tensor& t) { return PassTools::data(t); }
const float* read(const at::Tensor& t) { return PassTools::read(t); }
using Timed = PassTools::Timed;

int64_t group_of(const ModelConfig& config, int64_t tokens, int64_t longest) {
  return std::min(tokens, std::max(longest, kGroupFloats / config.n_embd));
}
int64_t head_rows_of(const ModelConfig& config, int64_t tokens) {
  return std::clamp<int64_t>(kLogitFloats / config.vocab_size, std::min<int64_t>(tokens, 128),
                             tokens);
}

const CoreModules& fused_core(const ModelConfig& config) {
  const auto lacking = TrainingPass::lacks(config);
  TORCH_CHECK(lacking.empty(), "TrainingPass: the fused operators do not have ", lacking);
  return modules_of(config);
}

}  // namespace

struct TrainingPass::Impl {
  Impl(RwkvImpl& model_, int64_t tokens, int64_t longest_, const TrainingPassOptions& options_)
      : model(model_),
        config(model_.config()),
        core(fused_core(config)),
        options(options_),
        N(tokens),
        longest(longest_),
        tools(core.pass_operators) {
    L = config.n_layer, C = config.n_embd, V = config.vocab_size;
    group_tokens = group_of(config, N, longest);
    loss_op = tools.operator_at("loss"), norm_op = tools.operator_at("norm_and_embedding");
    const auto make = [](at::IntArrayRef shape) { return at::empty(shape); };
    embedded = make({N, C});
    gradient = make({N, C});
    for (int64_t l = 0; l <= L; ++l) x.push_back(make({N, C}));
    const auto floats = core.pass_floats(config, N, longest, group_tokens);
    const int64_t sets = options.checkpoint_blocks ? 1 : L;
    for (int64_t l = 0; l < sets; ++l) kept.push_back(make({floats.kept}));
    scratch = make({floats.scratch});
    shared = make({floats.shared});
    head_rows = head_rows_of(config, N);
    logits = make({head_rows, V});
    normalized = make({head_rows, C});
    for (int64_t l = 0; l < L; ++l)
      blocks.push_back(core.pass({config, l, model.block_ptr(l), N, longest, tools}));
  }

  // Block `l` of sequences b0 .. b0 + count.
  PassRows rows(int64_t l, int64_t b0, int64_t count, bool advance) const {
    return {b0,
            count,
            x[static_cast<size_t>(l)],
            advance ? x[static_cast<size_t>(l + 1)] : at::Tensor(),
            gradient,
            data(kept[static_cast<size_t>(options.checkpoint_blocks ? 0 : l)]),
            data(scratch),
            data(shared)};
  }

  // Layer norm of rows 0 .. N' of `from`, in parallel.
  void norm_forward(const NormParameters& norm, const float* from, int64_t count, float* to) {
    const Timed timed(tools, norm_op);
    PassTools::in_parallel(count, 64, [&](int64_t first, int64_t last) {
      layer_norm_forward(from, read(norm.weight), read(norm.bias), C, first, last, to);
    });
  }
  // to <- gradient of the norm's input rows; may be dy.
  void norm_backward(const NormParameters& norm, const float* from, const float* dy, int64_t count,
                     float* to) {
    const Timed timed(tools, norm_op);
    const int64_t tasks = (count + 63) / 64;
    tools.parts.resize(static_cast<size_t>(tasks * 2 * C));
    PassTools::in_parallel(count, 64, [&](int64_t first, int64_t last) {
      layer_norm_backward(from, read(norm.weight), dy, C, first, last, to,
                          tools.parts.data() + first / 64 * 2 * C);
    });
    tools.add_partial_sums(tasks, 2, C, {{0, norm.weight}, {1, norm.bias}});
  }

  void embed(const std::int64_t* inputs) {
    const float* table = read(model.emb);
    for (int64_t i = 0; i < used; ++i)
      TORCH_CHECK(inputs[i] >= 0 && inputs[i] < V, "TrainingPass: token ", inputs[i],
                  " is outside the vocabulary of ", V);
    PassTools::in_parallel(used, 64, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i)
        std::memcpy(data(embedded) + i * C, table + inputs[i] * C,
                    static_cast<size_t>(C) * sizeof(float));
    });
    norm_forward(model.ln0, read(embedded), used, data(x[0]));
  }
  void embed_backward(const std::int64_t* inputs) {
    norm_backward(model.ln0, read(embedded), read(gradient), used, data(gradient));
    const Timed timed(tools, norm_op);
    float* grad = data(model.emb.grad());
    // By channels, so that tokens that occur twice never meet in two threads.
    PassTools::in_parallel(C, 16, [&](int64_t first, int64_t last) {
      for (int64_t i = 0; i < used; ++i)
        add_to(grad + inputs[i] * C + first, read(gradient) + i * C + first, last - first);
    });
  }

  // Losses of `count` rows of logits, which become their gradients times `scale`.
  void cross_entropy(const at::Tensor& rows, const std::int64_t* targets, int64_t count,
                     double scale, double* losses) {
    const Timed timed(tools, loss_op);
    PassTools::in_parallel(count, 8, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i)
        losses[i] = cross_entropy_row(data(rows) + i * V, V, targets[i], static_cast<float>(scale),
                                      static_cast<float>(options.l2wrap));
    });
  }

  // Sum of the losses of all tokens; with scale, gradients into `gradient` and the head.
  double head(const std::int64_t* targets, double scale) {
    const auto& last_x = x[static_cast<size_t>(L)];
    std::vector<double> losses(static_cast<size_t>(used));
    for (int64_t begin = 0; begin < used; begin += head_rows) {
      const int64_t count = std::min(head_rows, used - begin);
      const auto normal = normalized.narrow(0, 0, count), out = logits.narrow(0, 0, count);
      const float* from = read(last_x) + begin * C;
      norm_forward(model.ln_out, from, count, data(normal));
      tools.linear(out, normal, model.head);
      cross_entropy(out, targets + begin, count, scale, losses.data() + begin);
      if (scale == 0) continue;
      tools.add_weight_gradient(model.head, out, normal);
      tools.linear_transposed(gradient.narrow(0, begin, count), out, model.head);
      norm_backward(model.ln_out, from, read(gradient) + begin * C, count,
                    data(gradient) + begin * C);
    }
    double sum = 0;
    for (const double one : losses) sum += one;
    return sum;
  }

  template <class Run>
  void for_groups(const Run& run) const {
    const int64_t count = std::max<int64_t>(1, group_tokens / T);
    for (int64_t b0 = 0; b0 < B; b0 += count) run(b0, std::min(count, B - b0));
  }

  double run(const std::int64_t* inputs, const std::int64_t* targets, int64_t B_, int64_t T_,
             double scale) {
    const at::NoGradGuard no_grad;
    B = B_, T = T_, used = B * T;
    TORCH_CHECK(B > 0 && T > 0 && used <= N && T <= longest, "TrainingPass: made for ", N,
                " tokens in sequences of at most ", longest, ", got ", B, " of ", T);
    tools.B = B, tools.T = T;
    tools.phi = shift_positions(config, at::zeros({1}, at::kLong), T, at::kFloat);
    if (tools.phi.defined()) tools.phi = tools.phi.squeeze(0).contiguous();  // (T, F)
    for (const auto& block : blocks) block->begin();
    embed(inputs);
    for (int64_t l = 0; l < L; ++l)
      for_groups([&](int64_t b0, int64_t count) {
        blocks[static_cast<size_t>(l)]->forward(rows(l, b0, count, /*advance=*/true));
      });
    const double mean =
        head(targets, scale / static_cast<double>(used)) / static_cast<double>(used);
    if (scale == 0) return mean;
    for (int64_t l = L - 1; l >= 0; --l)
      for_groups([&](int64_t b0, int64_t count) {
        auto& block = *blocks[static_cast<size_t>(l)];
        const auto part = rows(l, b0, count, /*advance=*/false);
        if (options.checkpoint_blocks) block.forward(part);
        block.backward(part);
      });
    embed_backward(inputs);
    return mean;
  }

  RwkvImpl& model;
  ModelConfig config;
  const CoreModules& core;
  TrainingPassOptions options;
  int64_t N, longest, L = 0, C = 0, V = 0, group_tokens = 0, head_rows = 0;
  int64_t B = 0, T = 0, used = 0;
  PassTools tools;
  std::size_t loss_op = 0, norm_op = 0;
  std::vector<std::unique_ptr<BlockPass>> blocks;
  std::vector<at::Tensor> x;      // (N, C), input of each block, then of ln_out
  std::vector<at::Tensor> kept;   // of each block, or one for all
  at::Tensor embedded, gradient;  // (N, C)
  at::Tensor scratch, shared, logits, normalized;
};

std::string TrainingPass::lacks(const ModelConfig& config) {
  const auto& core = modules_of(config);
  if (core.pass == nullptr) return "the core " + std::string(core.core);
  return core.pass_lacks == nullptr ? "" : core.pass_lacks(config);
}

std::string slow_training_note(const ModelConfig& config) {
  const auto lacking = TrainingPass::lacks(config);
  if (lacking.empty()) return "";
  return "the fused operators do not have " + lacking +
         ": the reference modules train this model, at about half the speed";
}

double TrainingPass::buffer_bytes(const ModelConfig& config, std::int64_t tokens,
                                  std::int64_t longest, const TrainingPassOptions& options) {
  const auto real = [](std::int64_t value) { return static_cast<double>(value); };
  const double N = real(tokens), L = real(config.n_layer), C = real(config.n_embd);
  const auto floats =
      fused_core(config).pass_floats(config, tokens, longest, group_of(config, tokens, longest));
  const double all = N * C * (L + 3) + (options.checkpoint_blocks ? 1 : L) * real(floats.kept) +
                     real(floats.scratch) + real(floats.shared) +
                     real(head_rows_of(config, tokens)) * (real(config.vocab_size) + C);
  return all * sizeof(float);
}

TrainingPass::TrainingPass(RwkvImpl& model, std::int64_t tokens, std::int64_t longest,
                           const TrainingPassOptions& options)
    : impl_(std::make_unique<Impl>(model, tokens, longest, options)) {}
TrainingPass::~TrainingPass() = default;

const OperatorSeconds& TrainingPass::seconds() const { return impl_->tools.seconds; }
double TrainingPass::loss_and_gradients(const std::int64_t* inputs, const std::int64_t* targets,
                                        std::int64_t B, std::int64_t T, double scale) {
  return impl_->run(inputs, targets, B, T, scale);
}
double TrainingPass::loss(const std::int64_t* inputs, const std::int64_t* targets, std::int64_t B,
                          std::int64_t T) {
  return impl_->run(inputs, targets, B, T, 0);
}

}  // namespace rwkvx
