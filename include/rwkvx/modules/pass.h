// Fused training of one block: its forward and backward pass over groups of sequences, on memory
// that model/training_pass.h owns, and the tools that such passes share.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "rwkvx/config/model_config.h"
#include "rwkvx/modules/state.h"
#include "rwkvx/ops/integer_matrix.h"

namespace rwkvx {

class BlockImpl;

// Floats that the fused training of one block needs; see BlockPass.
struct PassFloats {
  std::int64_t kept = 0;     // from its forward to its backward pass
  std::int64_t scratch = 0;  // while one group of sequences goes through it
  std::int64_t shared = 0;   // by all blocks, for what they hand on to each other beside x
};

// Where and in what passes compute.
struct PassPlace {
  c10::Device device = c10::kCPU;
  // Of what lies between matrix products, and of these: bfloat16 with kernels alone. The residual
  // stream, states, norms, gates, losses and gradients of parameters are float32.
  at::ScalarType type = at::kFloat;
  // With a device's kernels (ops/cuda/call.h) in place of the CPU's operators. On the CPU that is
  // for tests, which run the kernels' bodies.
  bool kernels = false;

  // That of a model on `device`, in bfloat16 or not. On the CPU RWKVX_KERNEL_BODIES=f32 or bf16
  // asks for the kernels' bodies; throws ConfigError where it is something else.
  static PassPlace of(c10::Device device, bool bfloat16);
};

// What a batch holds at most.
struct PassLimits {
  std::int64_t tokens = 0, longest = 0;  // in all, and of one sequence
  std::int64_t sequences = 0;            // 0: as many as there are of `longest` tokens each
  std::int64_t group_tokens = 0;         // of sequences that go through a block together
  PassPlace place = {};
};

// Sequences that a batch has at most, where sequences shorter than `segment` are rare.
int64_t most_sequences(const PassLimits& limits, int64_t segment);
// States that a pass keeps at the start of every `segment` steps of all sequences, however the
// tokens are cut into sequences: batches of short ones keep a state each.
int64_t kept_states(const PassLimits& limits, int64_t segment);

// One sequence of a batch: rows [begin, begin + tokens) of everything, at the positions that begin
// with `position`. Sequences lie one after the other.
struct PassSequence {
  std::int64_t begin = 0, tokens = 0, position = 0;
  bool operator==(const PassSequence&) const = default;
};

// States of the sequences of a batch, and their gradients; null where there are none.
struct PassStates {
  const ModelState* before = nullptr;  // null: every sequence starts empty
  ModelState* after = nullptr;         // not `before`
  const ModelState* grad_after = nullptr;
  ModelState* grad_before = nullptr;  // assigned; not `grad_after`
};

// A low-rank addition to a matrix w (M, N): w + scale b a (arXiv 2106.09685).
struct PassAdapter {
  at::Tensor a, b;  // (r, N), (M, r)
  float scale = 1;
};

// Seconds by operator, in a fixed order.
using OperatorSeconds = std::vector<std::pair<std::string, double>>;

// Tensors one after the other in a buffer that belongs to someone else. Without one they have
// shapes alone: so a layout is written once and counted by laying it out.
class PassMemory {
 public:
  explicit PassMemory(const PassPlace& place, float* begin = nullptr)
      : place_(place), begin_(begin) {}
  // Of float32.
  at::Tensor take(at::IntArrayRef shape) { return take(shape, at::kFloat); }
  // Of the type of what lies between matrix products.
  at::Tensor take_activation(at::IntArrayRef shape) { return take(shape, place_.type); }
  // All that was taken so far.
  int64_t floats() const { return floats_; }

 private:
  at::Tensor take(at::IntArrayRef shape, at::ScalarType type);
  PassPlace place_;
  float* begin_;
  int64_t floats_ = 0;
};

// Consecutive sequences of one length and position: what a device's kernels take together.
struct PassRun {
  int64_t first = 0, count = 0;                 // sequences of the batch
  int64_t begin = 0, tokens = 0, position = 0;  // first row, tokens of each, their position
};

// Told of a matrix's copy in the type of matrix products when it is made. True: whoever changes the
// matrix writes the copy as well.
using KeepCopy = std::function<bool(const at::Tensor& matrix, const at::Tensor& copy)>;

// What the passes of all blocks share during a batch.
class PassTools {
 public:
  PassTools(const std::vector<std::string_view>& operators, const PassPlace& place);

  const PassPlace place;
  // Of the batch in progress, and the position features (P, F) of position phi_start and the
  // following, undefined where there are none.
  std::vector<PassSequence> sequences;
  bool equal = true;  // all sequences have the same length and position
  at::Tensor phi;
  int64_t phi_start = 0;
  // Whether a backward pass comes. Kernels write nothing for it where none does.
  bool keeps = true;
  // With kernels: phi has a row for each sequence, which are of one token each, wherever it stands.
  bool phi_by_sequence = false;
  // Dropout of the residual stream: the share of zeros, and what its random numbers depend on.
  double dropout = 0;
  std::uint64_t dropout_key = 0;
  std::int64_t dropout_first = 0;  // the place of the batch's first number in a larger one
  // Low-rank additions to matrices, by the matrix.
  std::unordered_map<const c10::TensorImpl*, PassAdapter> adapters;
  KeepCopy keep_copy;
  // Matrices that are held as integers, for passes without gradients; null: none.
  const IntegerMatrices* integers = nullptr;
  // Memory for one task's sums; grows.
  std::vector<float> parts;
  OperatorSeconds seconds;

  // Adds the time of its life to an operator's.
  class Timed {
   public:
    Timed(PassTools& tools, std::size_t op)
        : slot_(tools.seconds[op].second), start_(Clock::now()) {}
    ~Timed() { slot_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
    Timed(const Timed&) = delete;
    Timed& operator=(const Timed&) = delete;

   private:
    using Clock = std::chrono::steady_clock;
    double& slot_;
    Clock::time_point start_;
  };
  // The place of an operator's name among the seconds.
  std::size_t operator_at(std::string_view name) const;

  // The number of states kept before each sequence, and of all at the end.
  std::vector<std::int64_t> kept_before(std::int64_t segment) const;
  // Sequences first .. first + count as runs, whatever their positions where phi_by_sequence.
  std::vector<PassRun> runs(std::int64_t first, std::int64_t count) const;
  // Zeros a share of rows of the residual stream, the same for the same batch, `site` and `first`,
  // the place of the first number, and scales the others up. `site`: 0 behind the embedding, then
  // two for each block.
  void drop(const at::Tensor& rows, std::int64_t first, std::int64_t site);

  // Before a batch: matrices whose copies nobody keeps may have changed since the last one.
  void read_matrices();
  // Rows of float32 as matrix products take them.
  at::Tensor operand(const at::Tensor& rows) const {
    return rows.scalar_type() == place.type ? rows : rows.to(place.type);
  }

  // out (R, M) = a (R, N) w (M, N)^T, with w's low-rank addition.
  void linear(const at::Tensor& out, const at::Tensor& a, const at::Tensor& w);
  // out (R, M) += a (R, N) w (M, N)^T.
  void add_linear(const at::Tensor& out, const at::Tensor& a, const at::Tensor& w);
  // out (R, N) = a (R, M) w (M, N).
  void linear_transposed(const at::Tensor& out, const at::Tensor& a, const at::Tensor& w);
  // w's gradient (M, N) += dout (R, M)^T a (R, N), where w has one, and that of its addition.
  void add_weight_gradient(const at::Tensor& w, const at::Tensor& dout, const at::Tensor& a);
  // Adds row sums that tasks left in `parts`, (tasks, rows, C), to gradients of (C), row by row,
  // where they are defined.
  void add_partial_sums(int64_t tasks, int64_t rows, int64_t C,
                        const std::vector<std::pair<int64_t, at::Tensor>>& targets);
  // The same from `sums` (rows, …), which a device's kernels left: `factor` times each.
  static void add_sums(const at::Tensor& sums,
                       const std::vector<std::pair<int64_t, at::Tensor>>& targets,
                       double factor = 1);

  static float* data(const at::Tensor& t) { return t.mutable_data_ptr<float>(); }
  static const float* read(const at::Tensor& t) {
    return t.defined() ? t.const_data_ptr<float>() : nullptr;
  }
  // Tensor `row` of a block's state, of sequence b: null where there is no state or no such row.
  static float* state_of(const LayerState* state, int row, int64_t b) {
    if (state == nullptr || row < 0) return nullptr;
    const auto& all = (*state)[static_cast<std::size_t>(row)];
    return data(all) + b * all.stride(0);
  }
  // Calls run(first, last) over 0 .. count in parallel, in tasks of a fixed size.
  template <class Run>
  static void in_parallel(int64_t count, int64_t task, const Run& run) {
    const int64_t tasks = (count + task - 1) / task;
    at::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) run(i * task, std::min(count, (i + 1) * task));
    });
  }
  // Elements of one task of an elementwise operator.
  static constexpr int64_t kElements = 1 << 14;

 private:
  const PassAdapter* adapter_of(const at::Tensor& w) const;
  // A matrix, or its copy in the type of matrix products.
  const at::Tensor& matrix(const at::Tensor& w);
  struct Copy {
    at::Tensor from, to;
    bool kept = false;
  };
  std::unordered_map<const c10::TensorImpl*, Copy> copies_;
};

// Sequences first .. first + count of the batch, which go through a block together: rows
// [begin, begin + tokens).
struct PassRows {
  int64_t first, count, begin, tokens;
  at::Tensor x;      // (N, C), the block's input; rows of all sequences of the batch
  at::Tensor x_out;  // (N, C), its output; undefined where only what is kept is wanted
  at::Tensor dx;     // (N, C), in backward: the gradient of the output becomes that of the input
  float* kept;       // of this block, for all sequences of the batch: pass_floats().kept
  float* scratch;    // pass_floats().scratch
  float* shared;     // pass_floats().shared; kept from a batch's first forward to its last backward
  // Of this block, of all sequences of the batch: as PassStates has them.
  const LayerState* before = nullptr;
  LayerState* after = nullptr;
  const LayerState* grad_after = nullptr;
  LayerState* grad_before = nullptr;
};

// How a pass is made: once for each block. Its parameters must be contiguous float32 where it
// computes.
struct PassSetup {
  const ModelConfig& config;
  int64_t layer;
  std::shared_ptr<BlockImpl> block;
  PassLimits limits;
  PassTools& tools;
};

class BlockPass {
 public:
  virtual ~BlockPass() = default;
  // Before the first forward() of a batch.
  virtual void begin() {}
  virtual void forward(const PassRows& rows) = 0;
  // Adds the parameters' gradients to their contiguous .grad tensors, where these are defined. What
  // forward() kept of these rows may be overwritten.
  virtual void backward(const PassRows& rows) = 0;
};

}  // namespace rwkvx
