#include "rwkvx/model/training_pass.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <vector>

#include "model/batch_graph.h"
#include "model/pass_ends.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/modules/core_modules.h"
#include "rwkvx/modules/shift.h"
#include "rwkvx/ops/cuda/upload.h"

namespace rwkvx {
namespace {

// Floats of one activation of a group of sequences that goes through a block together. Smaller
// groups stay in cache between operators, but make slower matrix products: measured at C = 768,
// 1 << 20 was the faster by a few per cent.
constexpr int64_t kGroupFloats = 1 << 20;

// A device has no cache to keep a group in, and enough to do in a whole batch alone.
int64_t group_of(const ModelConfig& config, int64_t tokens, int64_t longest,
                 const PassPlace& place) {
  if (place.kernels) return tokens;
  return std::min(tokens, std::max(longest, kGroupFloats / config.n_embd));
}

PassLimits limits_of(const ModelConfig& config, int64_t tokens, int64_t longest,
                     const TrainingPassOptions& options) {
  return {tokens, longest, options.sequences, group_of(config, tokens, longest, options.place),
          options.place};
}

// Blocks whose activations are in memory at a time.
int64_t kept_sets(const ModelConfig& config, const TrainingPassOptions& options) {
  return options.checkpoint_blocks || !options.gradients ? 1 : config.n_layer;
}

const CoreModules& fused_core(const ModelConfig& config, const PassPlace& place) {
  const auto lacking = TrainingPass::lacks(config, place);
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
        core(fused_core(config, options_.place)),
        options(options_),
        limits(limits_of(config, tokens, longest_, options)),
        tools(core.pass_operators, options.place),
        graph(options.place.device, kBatchesBeforeGraph) {
    parameters = model.parameters();
    tools.keep_copy = options.keep_copy;
    tools.integers = options.integers;
    const int64_t N = tokens;
    L = config.n_layer, C = config.n_embd, V = config.vocab_size;
    const auto make = [&](at::IntArrayRef shape) {
      return at::empty(shape, at::device(options.place.device));
    };
    if (options.gradients) gradient = make({N, C});
    for (int64_t l = 0; l < (options.gradients ? L + 1 : 2); ++l) x.push_back(make({N, C}));
    const auto floats = core.pass_floats(config, limits);
    for (int64_t l = 0; l < kept_sets(config, options); ++l) kept.push_back(make({floats.kept}));
    scratch = make({floats.scratch});
    shared = make({floats.shared});
    const PassEndsSetup setup{model, tools, options, N};
    ends = options.place.kernels ? make_ends_on_device(setup) : make_ends(setup);
    for (int64_t l = 0; l < L; ++l)
      blocks.push_back(core.pass({config, l, model.block_ptr(l), limits, tools}));
  }

  // What layers share takes turns.
  static const at::Tensor& of_layer(const std::vector<at::Tensor>& all, int64_t l) {
    return all[static_cast<size_t>(l) % all.size()];
  }

  // Block `l` of a group of sequences.
  PassRows rows(int64_t l, const Group& group, bool advance) const {
    PassRows rows{group.first,
                  group.count,
                  group.begin,
                  group.tokens,
                  of_layer(x, l),
                  advance ? of_layer(x, l + 1) : at::Tensor(),
                  gradient,
                  PassTools::data(of_layer(kept, l)),
                  PassTools::data(scratch),
                  PassTools::data(shared)};
    const auto layer = [&](auto* state) {
      return state == nullptr ? nullptr : &state->layers[static_cast<size_t>(l)];
    };
    rows.before = layer(states.before), rows.after = layer(states.after);
    rows.grad_after = layer(states.grad_after), rows.grad_before = layer(states.grad_before);
    return rows;
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

  // What a call wants of a batch.
  enum class Wanted { kStates, kFeatures, kLogits, kLoss, kGradients };

  // Checks the batch and prepares what its blocks share.
  void begin(const TrainingBatch& batch, Wanted wanted) {
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
    const auto known = [&](const int64_t* tokens) {
      return std::all_of(tokens, tokens + used, [&](int64_t id) { return id >= 0 && id < V; });
    };
    TORCH_CHECK(known(batch.inputs) && (batch.targets == nullptr || known(batch.targets)),
                "TrainingPass: a token is outside the vocabulary of ", V);
    TORCH_CHECK(batch.targets != nullptr || wanted < Wanted::kLoss,
                "TrainingPass: a loss needs targets");
    TORCH_CHECK(options.gradients || wanted < Wanted::kGradients,
                "TrainingPass: made without memory for gradients");
    tools.keeps = wanted == Wanted::kGradients;
    tools.phi_by_sequence = options.place.kernels && wanted == Wanted::kLogits &&
                            all.size() == static_cast<size_t>(used);
    if (tools.phi_by_sequence)
      find_own_positions();
    else
      find_positions(lowest, highest - lowest);
    tools.dropout = batch.dropout, tools.dropout_key = batch.dropout_key;
    tools.dropout_first = batch.first_token * C;
    states = batch.states;
    TORCH_CHECK(
        !options.place.kernels || (states.grad_after == nullptr && states.grad_before == nullptr),
        "TrainingPass: gradients of states are computed on the CPU alone");
    ends->begin(batch, used);
    tools.read_matrices();
  }

  // The position features of positions start .. start + count, unless they are the last batch's.
  void find_positions(int64_t start, int64_t count) {
    if (tools.phi.defined() && tools.phi_start == start && tools.phi.size(0) == count) return;
    tools.phi_start = start;
    tools.phi = shift_positions(config, at::full({1}, start, at::kLong), count, at::kFloat);
    if (tools.phi.defined())
      tools.phi = tools.phi.squeeze(0).contiguous().to(options.place.device);  // (P, F)
  }

  // Those of each sequence's only token, at a place of their own.
  void find_own_positions() {
    const auto count = static_cast<int64_t>(tools.sequences.size());
    const auto positions = at::empty({count}, at::kLong);
    std::transform(tools.sequences.begin(), tools.sequences.end(),
                   positions.mutable_data_ptr<int64_t>(),
                   [](const PassSequence& one) { return one.position; });
    const auto found = shift_positions(config, positions, 1, at::kFloat);  // (count or 1, 1, F)
    tools.phi = at::Tensor(), tools.phi_start = -1;
    if (!found.defined()) return;
    const int64_t F = found.size(2);
    if (!own_phi.defined())
      own_phi = at::empty({limits.tokens, F}, at::device(options.place.device));
    tools.phi = own_phi.narrow(0, 0, count);
    cuda::upload_to(tools.phi,
                    found.squeeze(1).expand({count, F}).contiguous().const_data_ptr<float>());
  }

  LossSum run(const TrainingBatch& batch, Wanted wanted, double scale,
              const std::function<void(std::int64_t)>& complete = {}) {
    const at::NoGradGuard no_grad;
    begin(batch, wanted);
    if (wanted != Wanted::kGradients || complete || !fits_graph(batch)) {
      compute(wanted, scale, complete);
      return wanted == Wanted::kStates ? LossSum() : ends->loss();
    }
    const auto work = [this, wanted, scale] {
      compute(wanted, scale);
      return ends->loss().on(options.place.device);
    };
    return LossSum(graph.run({tools.sequences, scale, places()}, tools.phi, work).clone());
  }

  at::Tensor logits(const TrainingBatch& batch, BatchGraph* with) {
    const at::NoGradGuard no_grad;
    begin(batch, Wanted::kLogits);
    const auto work = [this] { return compute(Wanted::kLogits, 0); };
    if (with == nullptr || !tools.phi_by_sequence) return work();
    auto form = BatchForm{{{0, used, 0}}, 0, places()};
    for (const ModelState* state : {states.before, static_cast<const ModelState*>(states.after)}) {
      if (state == nullptr) continue;
      for (const auto& layer : state->layers)
        for (const auto& tensor : layer) form.places.push_back(tensor.const_data_ptr());
    }
    return with->run(form, tools.phi, work);
  }

  at::Tensor features(const TrainingBatch& batch) {
    const at::NoGradGuard no_grad;
    begin(batch, Wanted::kFeatures);
    return compute(Wanted::kFeatures, 0);
  }

  // Whether nothing changes from one batch to the next but tokens.
  bool fits_graph(const TrainingBatch& batch) const {
    return options.graph && options.place.kernels && batch.dropout == 0 &&
           batch.weights == nullptr && batch.states.before == nullptr &&
           batch.states.after == nullptr;
  }

  // Where all lies that is learned, and its gradients.
  std::vector<const void*> places() const {
    std::vector<const void*> all;
    const auto add = [&](const at::Tensor& one) {
      all.push_back(one.const_data_ptr());
      all.push_back(one.grad().defined() ? one.grad().const_data_ptr() : nullptr);
    };
    for (const auto& parameter : parameters) add(parameter);
    for (const auto& [matrix, adapter] : tools.adapters) add(adapter.a), add(adapter.b);
    return all;
  }

  // What begin() prepared; features or logits where they are wanted. Waits for nothing, and depends
  // on sequences, `wanted`, `scale`, the places of states and the numbers in memory, and on
  // dropout.
  at::Tensor compute(Wanted wanted, double scale,
                     const std::function<void(std::int64_t)>& complete = {}) {
    for (const auto& block : blocks) block->begin();
    const auto rows_of = [&](const at::Tensor& all) { return all.narrow(0, 0, used); };
    ends->embed(rows_of(x.front()));
    const auto all = groups();
    for (int64_t l = 0; l < L; ++l)
      for (const auto& group : all)
        blocks[static_cast<size_t>(l)]->forward(rows(l, group, /*advance=*/true));
    if (wanted == Wanted::kStates) return {};
    const auto last = rows_of(of_layer(x, L));
    if (wanted == Wanted::kFeatures) return ends->features(last);
    if (wanted == Wanted::kLogits) return ends->logits(last);
    if (wanted == Wanted::kLoss) {
      ends->head(0, last, at::Tensor());
      return {};
    }
    ends->head(scale, last, rows_of(gradient));
    for (int64_t l = L - 1; l >= 0; --l) {
      for (const auto& group : all) {
        auto& block = *blocks[static_cast<size_t>(l)];
        const auto part = rows(l, group, /*advance=*/false);
        if (options.checkpoint_blocks) block.forward(part);
        block.backward(part);
      }
      if (complete) complete(l);
    }
    ends->embed_backward(rows_of(gradient));
    return {};
  }

  RwkvImpl& model;
  std::vector<at::Tensor> parameters;
  ModelConfig config;
  const CoreModules& core;
  TrainingPassOptions options;
  PassLimits limits;
  int64_t L = 0, C = 0, V = 0;
  int64_t used = 0;  // tokens of the batch
  PassTools tools;
  BatchGraph graph;
  PassStates states;
  std::unique_ptr<PassEnds> ends;
  std::vector<std::unique_ptr<BlockPass>> blocks;
  // (N, C), input of each block, then of ln_out; without gradients two that take turns.
  std::vector<at::Tensor> x;
  std::vector<at::Tensor> kept;  // of each block, or one for all
  at::Tensor gradient;           // (N, C), with gradients
  at::Tensor own_phi;            // (N, F), made where it is wanted
  at::Tensor scratch, shared;
};

std::string TrainingPass::lacks(const ModelConfig& config, const PassPlace& place) {
  const auto& core = modules_of(config);
  if (core.pass == nullptr) return "the core " + std::string(core.core);
  return core.pass_lacks == nullptr ? "" : core.pass_lacks(config, place);
}

std::string slow_training_note(const ModelConfig& config, const PassPlace& place) {
  const auto lacking = TrainingPass::lacks(config, place);
  if (lacking.empty()) return "";
  return "the fused operators do not have " + lacking +
         ": the reference modules train this model, at about half the speed";
}

double TrainingPass::buffer_bytes(const ModelConfig& config, std::int64_t tokens,
                                  std::int64_t longest, const TrainingPassOptions& options) {
  const auto real = [](std::int64_t value) { return static_cast<double>(value); };
  const double N = real(tokens), L = real(config.n_layer), C = real(config.n_embd);
  const auto floats = fused_core(config, options.place)
                          .pass_floats(config, limits_of(config, tokens, longest, options));
  const double all = N * C * (options.gradients ? L + 2 : 2) +
                     real(kept_sets(config, options)) * real(floats.kept) + real(floats.scratch) +
                     real(floats.shared) + pass_ends_floats(config, tokens, options.place);
  return all * sizeof(float);
}

TrainingPass::TrainingPass(RwkvImpl& model, std::int64_t tokens, std::int64_t longest,
                           const TrainingPassOptions& options)
    : impl_(std::make_unique<Impl>(model, tokens, longest, options)) {}
TrainingPass::~TrainingPass() = default;

const OperatorSeconds& TrainingPass::seconds() const { return impl_->tools.seconds; }
std::int64_t TrainingPass::graphs_started() const { return impl_->graph.started(); }
TrainingBatch TrainingBatch::of_rows(const std::int64_t* inputs, const std::int64_t* targets,
                                     std::int64_t B, std::int64_t T) {
  TrainingBatch batch;
  batch.inputs = inputs, batch.targets = targets;
  for (int64_t b = 0; b < B; ++b) batch.sequences.push_back({b * T, T, 0});
  return batch;
}

LossSum TrainingPass::loss_and_gradients(const TrainingBatch& batch, double scale) {
  return impl_->run(batch, Impl::Wanted::kGradients, scale);
}
LossSum TrainingPass::loss_and_gradients(const TrainingBatch& batch, double scale,
                                         const std::function<void(std::int64_t layer)>& complete) {
  return impl_->run(batch, Impl::Wanted::kGradients, scale, complete);
}
LossSum TrainingPass::loss(const TrainingBatch& batch) {
  return impl_->run(batch, Impl::Wanted::kLoss, 0);
}
void TrainingPass::advance(const TrainingBatch& batch) {
  impl_->run(batch, Impl::Wanted::kStates, 0);
}
at::Tensor TrainingPass::features(const TrainingBatch& batch) { return impl_->features(batch); }
at::Tensor TrainingPass::logits(const TrainingBatch& batch, BatchGraph* graph) {
  return impl_->logits(batch, graph);
}
void TrainingPass::add_adapter(const at::Tensor& matrix, const PassAdapter& adapter) {
  impl_->tools.adapters[matrix.unsafeGetTensorImpl()] = adapter;
}

LossSum TrainingPass::loss_and_gradients(const std::int64_t* inputs, const std::int64_t* targets,
                                         std::int64_t B, std::int64_t T, double scale) {
  const auto count = static_cast<double>(B * T);
  return loss_and_gradients(TrainingBatch::of_rows(inputs, targets, B, T), scale / count) / count;
}
LossSum TrainingPass::loss(const std::int64_t* inputs, const std::int64_t* targets, std::int64_t B,
                           std::int64_t T) {
  return loss(TrainingBatch::of_rows(inputs, targets, B, T)) / static_cast<double>(B * T);
}

}  // namespace rwkvx
