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

PassLimits limits_of(const ModelConfig& config, int64_t tokens, int64_t longest,
                     const TrainingPassOptions& options) {
  return {tokens, longest, options.sequences, group_of(config, tokens, longest)};
}

const CoreModules& fused_core(const ModelConfig& config) {
  const auto lacking = TrainingPass::lacks(config);
  TORCH_CHECK(lacking.empty(), "TrainingPass: the fused operators do not have ", lacking);
  return modules_of(config);
}

// Sequences first .. first + count, rows begin .. begin + tokens.
struct Group {
  int64_t first = 0, count = 0, begin = 0, tokens = 0;
};

}  // namespace

struct TrainingPass::Impl {
  Impl(RwkvImpl& model_, int64_t tokens, int64_t longest_, const TrainingPassOptions& options_)
      : model(model_),
        config(model_.config()),
        core(fused_core(config)),
        options(options_),
        limits(limits_of(config, tokens, longest_, options)),
        tools(core.pass_operators) {
    const int64_t N = tokens;
    L = config.n_layer, C = config.n_embd, V = config.vocab_size;
    loss_op = tools.operator_at("loss"), norm_op = tools.operator_at("norm_and_embedding");
    const auto make = [](at::IntArrayRef shape) { return at::empty(shape); };
    embedded = make({N, C});
    gradient = make({N, C});
    for (int64_t l = 0; l <= L; ++l) x.push_back(make({N, C}));
    const auto floats = core.pass_floats(config, limits);
    const int64_t sets = options.checkpoint_blocks ? 1 : L;
    for (int64_t l = 0; l < sets; ++l) kept.push_back(make({floats.kept}));
    scratch = make({floats.scratch});
    shared = make({floats.shared});
    head_rows = head_rows_of(config, N);
    logits = make({head_rows, V});
    normalized = make({head_rows, C});
    for (int64_t l = 0; l < L; ++l)
      blocks.push_back(core.pass({config, l, model.block_ptr(l), limits, tools}));
  }

  // Block `l` of a group of sequences.
  PassRows rows(int64_t l, const Group& group, bool advance) const {
    PassRows rows{group.first,
                  group.count,
                  group.begin,
                  group.tokens,
                  x[static_cast<size_t>(l)],
                  advance ? x[static_cast<size_t>(l + 1)] : at::Tensor(),
                  gradient,
                  data(kept[static_cast<size_t>(options.checkpoint_blocks ? 0 : l)]),
                  data(scratch),
                  data(shared)};
    const auto layer = [&](auto* state) {
      return state == nullptr ? nullptr : &state->layers[static_cast<size_t>(l)];
    };
    rows.before = layer(states.before), rows.after = layer(states.after);
    rows.grad_after = layer(states.grad_after), rows.grad_before = layer(states.grad_before);
    return rows;
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
    tools.drop(data(embedded), 0, used * C, 0);
    norm_forward(model.ln0, read(embedded), used, data(x[0]));
  }
  void embed_backward(const std::int64_t* inputs) {
    norm_backward(model.ln0, read(embedded), read(gradient), used, data(gradient));
    if (!model.emb.grad().defined()) return;
    tools.drop(data(gradient), 0, used * C, 0);
    const Timed timed(tools, norm_op);
    float* grad = data(model.emb.grad());
    // By channels, so that tokens that occur twice never meet in two threads.
    PassTools::in_parallel(C, 16, [&](int64_t first, int64_t last) {
      for (int64_t i = 0; i < used; ++i)
        add_to(grad + inputs[i] * C + first, read(gradient) + i * C + first, last - first);
    });
  }

  // Losses of rows [begin, begin + count) of the rows in `picked`, or of all, times their weights;
  // the rows of logits become their gradients times `scale`.
  void cross_entropy(const at::Tensor& rows, const TrainingBatch& batch, int64_t begin,
                     int64_t count, double scale, double* losses) {
    const Timed timed(tools, loss_op);
    PassTools::in_parallel(count, 8, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t row = row_of(begin + i);
        const double weight =
            batch.weights == nullptr ? 1 : static_cast<double>(batch.weights[row]);
        losses[i] = weight * cross_entropy_row(data(rows) + i * V, V, batch.targets[row],
                                               static_cast<float>(scale * weight),
                                               static_cast<float>(options.l2wrap));
      }
    });
  }
  // The rows that have a loss: all, or those whose weight is not 0.
  void pick(const TrainingBatch& batch) {
    picked.clear();
    all_rows = batch.weights == nullptr;
    if (all_rows) return;
    for (int64_t i = 0; i < used; ++i)
      if (batch.weights[i] != 0) picked.push_back(i);
    if (!picked_x.defined()) picked_x = at::empty({head_rows, C});
  }
  int64_t row_of(int64_t i) const { return all_rows ? i : picked[static_cast<size_t>(i)]; }
  // Rows [begin, begin + count) of those that have a loss, in one place.
  const float* gathered(const float* from, int64_t begin, int64_t count) {
    if (all_rows) return from + begin * C;
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(data(picked_x) + i * C, from + row_of(begin + i) * C,
                  static_cast<size_t>(C) * sizeof(float));
    return read(picked_x);
  }

  // Sum of the losses of all tokens; with scale, gradients into `gradient` and the head.
  double head(const TrainingBatch& batch, double scale) {
    pick(batch);
    const int64_t wanted = all_rows ? used : static_cast<int64_t>(picked.size());
    std::vector<double> losses(static_cast<size_t>(wanted));
    if (!all_rows && scale != 0) gradient.narrow(0, 0, used).zero_();
    for (int64_t begin = 0; begin < wanted; begin += head_rows) {
      const int64_t count = std::min(head_rows, wanted - begin);
      const auto normal = normalized.narrow(0, 0, count), out = logits.narrow(0, 0, count);
      const float* from = gathered(read(x[static_cast<size_t>(L)]), begin, count);
      norm_forward(model.ln_out, from, count, data(normal));
      tools.linear(out, normal, model.head);
      cross_entropy(out, batch, begin, count, scale, losses.data() + begin);
      if (scale == 0) continue;
      tools.add_weight_gradient(model.head, out, normal);
      // Where rows were gathered, their gradients take the place of what the head took.
      const auto to = all_rows ? gradient.narrow(0, begin, count) : normal;
      tools.linear_transposed(to, out, model.head);
      norm_backward(model.ln_out, from, read(to), count, data(to));
      if (all_rows) continue;
      for (int64_t i = 0; i < count; ++i)
        std::memcpy(data(gradient) + row_of(begin + i) * C, read(to) + i * C,
                    static_cast<size_t>(C) * sizeof(float));
    }
    double sum = 0;
    for (const double one : losses) sum += one;
    return sum;
  }

  // Sequences that go through the blocks together: as many as fit, at least one.
  std::vector<Group> groups() const {
    std::vector<Group> all;
    for (int64_t b = 0; b < static_cast<int64_t>(tools.sequences.size()); ++b) {
      const int64_t tokens = tools.sequences[static_cast<size_t>(b)].tokens;
      if (all.empty() || all.back().tokens + tokens > limits.group_tokens)
        all.push_back({b, 0, tools.sequences[static_cast<size_t>(b)].begin, 0});
      ++all.back().count;
      all.back().tokens += tokens;
    }
    return all;
  }

  // Checks the batch and prepares what its blocks share.
  void begin(const TrainingBatch& batch) {
    auto& all = tools.sequences;
    all = batch.sequences;
    TORCH_CHECK(!all.empty(), "TrainingPass: a batch without sequences");
    int64_t lowest = all.front().position, highest = 0;
    used = 0;
    tools.equal = true;
    for (const auto& one : all) {
      TORCH_CHECK(one.tokens > 0 && one.tokens <= limits.longest && one.begin == used &&
                      used + one.tokens <= limits.tokens,
                  "TrainingPass: made for ", limits.tokens, " tokens in sequences of at most ",
                  limits.longest, ", one after the other, got ", one.tokens, " at ", one.begin);
      used += one.tokens;
      lowest = std::min(lowest, one.position);
      highest = std::max(highest, one.position + one.tokens);
      tools.equal =
          tools.equal && one.tokens == all.front().tokens && one.position == all.front().position;
    }
    tools.phi_start = lowest;
    tools.phi =
        shift_positions(config, at::full({1}, lowest, at::kLong), highest - lowest, at::kFloat);
    if (tools.phi.defined()) tools.phi = tools.phi.squeeze(0).contiguous();  // (P, F)
    tools.dropout = batch.dropout, tools.dropout_key = batch.dropout_key;
    tools.dropout_first = batch.first_token * C;
    states = batch.states;
    for (const auto& block : blocks) block->begin();
  }

  // What a call wants of a batch.
  enum class Wanted { kStates, kLoss, kGradients };
  double run(const TrainingBatch& batch, Wanted wanted, double scale,
             const std::function<void(std::int64_t)>& complete = {}) {
    const at::NoGradGuard no_grad;
    begin(batch);
    embed(batch.inputs);
    const auto all = groups();
    for (int64_t l = 0; l < L; ++l)
      for (const auto& group : all)
        blocks[static_cast<size_t>(l)]->forward(rows(l, group, /*advance=*/true));
    if (wanted == Wanted::kStates) return 0;
    const double sum = head(batch, wanted == Wanted::kGradients ? scale : 0);
    if (wanted == Wanted::kLoss) return sum;
    for (int64_t l = L - 1; l >= 0; --l) {
      for (const auto& group : all) {
        auto& block = *blocks[static_cast<size_t>(l)];
        const auto part = rows(l, group, /*advance=*/false);
        if (options.checkpoint_blocks) block.forward(part);
        block.backward(part);
      }
      if (complete) complete(l);
    }
    embed_backward(batch.inputs);
    return sum;
  }

  RwkvImpl& model;
  ModelConfig config;
  const CoreModules& core;
  TrainingPassOptions options;
  PassLimits limits;
  int64_t L = 0, C = 0, V = 0, head_rows = 0;
  int64_t used = 0;  // tokens of the batch
  PassTools tools;
  PassStates states;
  std::vector<int64_t> picked;
  bool all_rows = true;
  std::size_t loss_op = 0, norm_op = 0;
  std::vector<std::unique_ptr<BlockPass>> blocks;
  std::vector<at::Tensor> x;      // (N, C), input of each block, then of ln_out
  std::vector<at::Tensor> kept;   // of each block, or one for all
  at::Tensor embedded, gradient;  // (N, C)
  at::Tensor scratch, shared, logits, normalized, picked_x;
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
      fused_core(config).pass_floats(config, limits_of(config, tokens, longest, options));
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
TrainingBatch TrainingBatch::of_rows(const std::int64_t* inputs, const std::int64_t* targets,
                                     std::int64_t B, std::int64_t T) {
  TrainingBatch batch;
  batch.inputs = inputs, batch.targets = targets;
  for (int64_t b = 0; b < B; ++b) batch.sequences.push_back({b * T, T, 0});
  return batch;
}

double TrainingPass::loss_and_gradients(const TrainingBatch& batch, double scale) {
  return impl_->run(batch, Impl::Wanted::kGradients, scale);
}
double TrainingPass::loss_and_gradients(const TrainingBatch& batch, double scale,
                                        const std::function<void(std::int64_t layer)>& complete) {
  return impl_->run(batch, Impl::Wanted::kGradients, scale, complete);
}
double TrainingPass::loss(const TrainingBatch& batch) {
  return impl_->run(batch, Impl::Wanted::kLoss, 0);
}
void TrainingPass::advance(const TrainingBatch& batch) {
  impl_->run(batch, Impl::Wanted::kStates, 0);
}
void TrainingPass::add_adapter(const at::Tensor& matrix, const PassAdapter& adapter) {
  impl_->tools.adapters[matrix.unsafeGetTensorImpl()] = adapter;
}

double TrainingPass::loss_and_gradients(const std::int64_t* inputs, const std::int64_t* targets,
                                        std::int64_t B, std::int64_t T, double scale) {
  const auto count = static_cast<double>(B * T);
  return loss_and_gradients(TrainingBatch::of_rows(inputs, targets, B, T), scale / count) / count;
}
double TrainingPass::loss(const std::int64_t* inputs, const std::int64_t* targets, std::int64_t B,
                          std::int64_t T) {
  return loss(TrainingBatch::of_rows(inputs, targets, B, T)) / static_cast<double>(B * T);
}

}  // namespace rwkvx
