#include "rwkvx/model/training_pass.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "rwkvx/model/rwkv.h"
#include "rwkvx/ops/activation_kernel.h"
#include "rwkvx/ops/conv_shift.h"
#include "rwkvx/ops/shift_mix_kernel.h"
#include "rwkvx/ops/wkv.h"
#include "rwkvx/ops/wkv_kernel.h"

namespace rwkvx {
namespace {

// Floats of one activation of a group of sequences that goes through a block together. Smaller
// groups stay in cache between operators, but make slower matrix products: measured at C = 768,
// 1 << 20 was the faster by a few per cent.
constexpr int64_t kGroupFloats = 1 << 20;
// Floats of the logits that exist at a time: every piece reads and writes the head's gradient.
constexpr int64_t kLogitFloats = 1 << 25;
// Elements of one task of an elementwise operator.
constexpr int64_t kElements = 1 << 14;
constexpr int64_t kWkvChannels = 64;

float* data(const at::Tensor& t) { return t.mutable_data_ptr<float>(); }
const float* read(const at::Tensor& t) { return t.defined() ? t.const_data_ptr<float>() : nullptr; }

// Calls run(first, last) over 0 .. count in parallel, in tasks of a fixed size.
template <class Run>
void in_parallel(int64_t count, int64_t task, const Run& run) {
  const int64_t tasks = (count + task - 1) / task;
  at::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) run(i * task, std::min(count, (i + 1) * task));
  });
}

// Adds the time of its life to an operator's.
class Timed {
 public:
  Timed(OperatorSeconds& seconds, Operator op)
      : slot_(seconds[static_cast<size_t>(op)]), start_(Clock::now()) {}
  ~Timed() { slot_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double& slot_;
  Clock::time_point start_;
};

// Adds row sums that tasks left, (tasks, rows, C), to gradients of (C), row by row.
void add_partial_sums(const float* parts, int64_t tasks, int64_t rows, int64_t C,
                      const std::vector<std::pair<int64_t, at::Tensor>>& targets) {
  in_parallel(static_cast<int64_t>(targets.size()), 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const auto& [row, parameter] = targets[static_cast<size_t>(i)];
      float* grad = data(parameter.grad());
      for (int64_t task = 0; task < tasks; ++task) add_to(grad, parts + (task * rows + row) * C, C);
    }
  });
}

// One place where the shift and the token-shift mixes stand, with its parameters.
struct Site {
  torch::nn::LayerNorm norm{nullptr};
  ConvShiftParameters learned;  // empty in the baseline
  std::vector<at::Tensor> mix;
  at::Tensor fixed_conv;  // gate_only: the previous token, as two taps that are not learned
  int64_t C = 0;

  int taps() const {
    if (learned.conv.defined()) return static_cast<int>(learned.conv.size(0));
    return fixed_conv.defined() ? 2 : 0;
  }
  ShiftMixSite view() const {
    ShiftMixSite site;
    site.channels = C;
    site.taps = taps();
    site.mixes = static_cast<int>(mix.size());
    site.norm_weight = read(norm->weight);
    site.norm_bias = read(norm->bias);
    site.conv = read(learned.conv.defined() ? learned.conv : fixed_conv);
    site.gate_x = read(learned.gate_x);
    site.gate_s = read(learned.gate_s);
    site.gate_b = read(learned.gate_b);
    for (size_t i = 0; i < mix.size(); ++i) site.mix[i] = read(mix[i]);
    return site;
  }
};

// What the backward pass needs of one block; N tokens.
struct Kept {
  at::Tensor k, v, r, y;    // (N, A)
  at::Tensor wkv;           // (sequences, segments, 3, A), flat
  at::Tensor x_mid;         // (N, C)
  at::Tensor h;             // (N, F)
  at::Tensor ffn_r, ffn_v;  // (N, C)
};

}  // namespace

struct TrainingPass::Impl {
  Impl(RwkvImpl& model_, int64_t tokens, int64_t longest_, const TrainingPassOptions& options_)
      : model(model_), config(model_.config()), options(options_), N(tokens), longest(longest_) {
    L = config.n_layer, C = config.n_embd, A = config.att_channels(), F = config.ffn_channels();
    V = config.vocab_size;
    group_tokens = std::min(N, std::max(longest, kGroupFloats / C));
    const auto make = [](at::IntArrayRef shape) { return torch::empty(shape); };
    embedded = make({N, C});
    gradient = make({N, C});
    for (int64_t l = 0; l <= L; ++l) x.push_back(make({N, C}));
    const int64_t sets = options.checkpoint_blocks ? 1 : L;
    for (int64_t l = 0; l < sets; ++l)
      kept.push_back({make({N, A}), make({N, A}), make({N, A}), make({N, A}),
                      make({kept_states(), 3 * A}), make({N, C}), make({N, F}), make({N, C}),
                      make({N, C})});
    const int64_t G = group_tokens, widest = std::max(A, C);
    for (auto& one : scratch) one = make({G, widest});
    wide_scratch = make({G, F});
    head_rows = std::clamp<int64_t>(kLogitFloats / V, std::min<int64_t>(N, 128), N);
    logits = make({head_rows, V});
    normalised = make({head_rows, C});
    zero_state = torch::zeros({std::max<int64_t>(kShiftMixTaps, 3), widest});
    wkv_zero = wkv_start(1, A, torch::kFloat32);
    for (int64_t l = 0; l < L; ++l) {
      auto& block = model.block(l);
      sites.push_back(
          make_site(block.ln1, block.att->shift,
                    {block.att->time_mix_k, block.att->time_mix_v, block.att->time_mix_r}));
      sites.push_back(
          make_site(block.ln2, block.ffn->shift, {block.ffn->time_mix_k, block.ffn->time_mix_r}));
    }
  }

  // Kept WKV states of all sequences, however the tokens are cut into sequences.
  int64_t kept_states() const { return wkv_segments(N) + N / std::max<int64_t>(shortest(), 1) + 1; }
  // Batches of short sequences keep a state each; this bounds their number.
  int64_t shortest() const { return std::min<int64_t>(longest, kWkvSegment); }

  Site make_site(const torch::nn::LayerNorm& norm, const GatedShift& shift,
                 std::vector<at::Tensor> mix) const {
    Site site;
    site.C = C;
    site.norm = norm;
    site.mix = std::move(mix);
    if (shift.is_empty()) return site;
    site.learned = shift->learned;
    if (!site.learned.conv.defined()) {
      site.fixed_conv = torch::zeros({2, C});
      site.fixed_conv[1].fill_(1);
    }
    return site;
  }

  // The taps' factors of every site, (T, K), or undefined: the same for all sequences of a batch.
  void find_factors() {
    factors.assign(sites.size(), {});
    for (size_t i = 0; i < sites.size(); ++i)
      if (const auto& u = sites[i].learned.pos_u; u.defined())
        factors[i] = (1 + at::mm(phi, u.detach().t())).contiguous();
  }

  ShiftMixSequence sequence(const at::Tensor& rows, const at::Tensor& m, int64_t b) const {
    return {T, read(rows) + b * T * C, read(m), read(zero_state), read(zero_state)};
  }

  // Runs over the segments of `count` sequences: run(sequence in the group, first, last, task).
  template <class Run>
  void for_segments(int64_t count, const Run& run) const {
    const int64_t length = shift_mix_segment(C), pieces = (T + length - 1) / length;
    in_parallel(count * pieces, 1, [&](int64_t first, int64_t) {
      const int64_t b = first / pieces, begin = first % pieces * length;
      run(b, begin, std::min(T, begin + length), first);
    });
  }
  int64_t segment_tasks(int64_t count) const {
    const int64_t length = shift_mix_segment(C);
    return count * ((T + length - 1) / length);
  }

  // out (R, M) = a (R, N) w (M, N)^T.
  void linear(const at::Tensor& out, const at::Tensor& a, const at::Tensor& w) {
    const Timed timed(seconds, Operator::kMatrixProducts);
    auto target = out;
    at::mm_out(target, a, w.t());
  }
  // out (R, N) = a (R, M) w (M, N).
  void linear_transposed(const at::Tensor& out, const at::Tensor& a, const at::Tensor& w) {
    const Timed timed(seconds, Operator::kMatrixProducts);
    auto target = out;
    at::mm_out(target, a, w);
  }
  // grad (M, N) += dout (R, M)^T a (R, N).
  void add_weight_gradient(const at::Tensor& parameter, const at::Tensor& dout,
                           const at::Tensor& a) {
    const Timed timed(seconds, Operator::kMatrixProducts);
    auto grad = parameter.grad();
    at::addmm_out(grad, grad, dout.t(), a);
  }

  // z[i] (count T, C) of sequences b0 .. b0 + count.
  void mix_forward(const Site& site, const at::Tensor& m, const at::Tensor& rows, int64_t b0,
                   int64_t count, const std::vector<at::Tensor>& z) {
    const Timed timed(seconds, Operator::kShiftMix);
    const auto view = site.view();
    for_segments(count, [&](int64_t b, int64_t first, int64_t last, int64_t) {
      float* out[kShiftMixMixes] = {};
      for (size_t i = 0; i < z.size(); ++i) out[i] = data(z[i]) + b * T * C;
      shift_mix_forward(view, sequence(rows, m, b0 + b), first, last, out);
    });
  }

  // Adds the gradient of the rows to `gradient` and those of the site's parameters to theirs.
  void mix_backward(const Site& site, const at::Tensor& m, const at::Tensor& rows, int64_t b0,
                    int64_t count, const std::vector<at::Tensor>& dz) {
    const Timed timed(seconds, Operator::kShiftMix);
    const auto view = site.view();
    const int64_t tasks = segment_tasks(count), lines = shift_mix_grad_rows(view), K = view.taps;
    parts.resize(static_cast<size_t>(tasks * lines * C));
    at::Tensor dm;
    if (m.defined()) dm = torch::empty({count, T, K});
    for_segments(count, [&](int64_t b, int64_t first, int64_t last, int64_t task) {
      const float* in[kShiftMixMixes] = {};
      for (size_t i = 0; i < dz.size(); ++i) in[i] = read(dz[i]) + b * T * C;
      shift_mix_backward(view, sequence(rows, m, b0 + b), first, last, in,
                         data(gradient) + (b0 + b) * T * C, parts.data() + task * lines * C,
                         dm.defined() ? data(dm) + b * T * K : nullptr);
    });
    std::vector<std::pair<int64_t, at::Tensor>> targets{{0, site.norm->weight},
                                                        {1, site.norm->bias}};
    if (view.gate_b != nullptr) {
      targets.emplace_back(2, site.learned.gate_x);
      targets.emplace_back(3, site.learned.gate_s);
      targets.emplace_back(4, site.learned.gate_b);
    }
    for (size_t i = 0; i < site.mix.size(); ++i)
      targets.emplace_back(5 + static_cast<int64_t>(i), site.mix[i]);
    if (site.learned.conv.defined()) {
      // The taps' gradient is (K, C): K rows of sums.
      for (int64_t task = 0; task < tasks; ++task)
        add_to(data(site.learned.conv.grad()),
               parts.data() + (task * lines + kShiftMixGradRows) * C, K * C);
    }
    add_partial_sums(parts.data(), tasks, lines, C, targets);
    if (dm.defined()) {
      auto grad = site.learned.pos_u.grad();
      grad.add_(at::mm(dm.sum(0).t(), phi));
    }
  }

  float* wkv_kept_of(const Kept& one, int64_t b) const {
    return data(one.wkv) + b * wkv_segments(T) * 3 * A;
  }
  template <class Run>
  void for_channels(int64_t count, const Run& run) {
    const Timed timed(seconds, Operator::kWkv);
    const int64_t blocks = (A + kWkvChannels - 1) / kWkvChannels;
    in_parallel(count * blocks, 1, [&](int64_t task, int64_t) {
      const int64_t first = task % blocks * kWkvChannels;
      run(task / blocks, first, std::min(A, first + kWkvChannels));
    });
  }

  // Runs an elementwise operator, run(first, last), over `count` numbers.
  template <class Run>
  void elementwise(int64_t count, const Run& run) {
    const Timed timed(seconds, Operator::kActivation);
    in_parallel(count, kElements, run);
  }

  at::Tensor rows(const at::Tensor& all, int64_t b0, int64_t count) const {
    return all.narrow(0, b0 * T, count * T);
  }
  at::Tensor narrow_scratch(size_t i, int64_t count, int64_t width) const {
    return scratch[i].view({-1}).narrow(0, 0, count * T * width).view({count * T, width});
  }

  // Block `l` of sequences b0 .. b0 + count: fills its kept buffers, and x[l + 1] where `advance`.
  void block_forward(int64_t l, int64_t b0, int64_t count, bool advance) {
    auto& block = model.block(l);
    auto& keep = kept[static_cast<size_t>(options.checkpoint_blocks ? 0 : l)];
    const auto& x_in = x[static_cast<size_t>(l)];
    const auto &att = sites[static_cast<size_t>(2 * l)],
               &ffn = sites[static_cast<size_t>(2 * l + 1)];
    const int64_t R = count * T;

    const std::vector<at::Tensor> z{narrow_scratch(0, count, C), narrow_scratch(1, count, C),
                                    narrow_scratch(2, count, C)};
    mix_forward(att, factors[static_cast<size_t>(2 * l)], x_in, b0, count, z);
    linear(rows(keep.k, b0, count), z[0], block.att->key->weight);
    linear(rows(keep.v, b0, count), z[1], block.att->value->weight);
    linear(rows(keep.r, b0, count), z[2], block.att->receptance->weight);
    const auto w = -torch::exp(block.att->time_decay), u = block.att->time_first.contiguous();
    for_channels(count, [&](int64_t b, int64_t first, int64_t last) {
      const int64_t at = (b0 + b) * T * A;
      wkv_forward(WkvForward<float>{T, A, A, first, last, read(w), read(u), read(keep.k) + at,
                                    read(keep.v) + at, read(keep.r) + at, data(keep.y) + at,
                                    read(wkv_zero), nullptr, wkv_kept_of(keep, b0 + b)});
    });
    linear(z[0], rows(keep.y, b0, count), block.att->output->weight);
    float* x_mid = data(keep.x_mid) + b0 * T * C;
    const float* x_rows = read(x_in) + b0 * T * C;
    elementwise(R * C, [&](int64_t first, int64_t last) {
      residual_forward(x_rows + first, read(z[0]) + first, x_mid + first, last - first);
    });

    mix_forward(ffn, factors[static_cast<size_t>(2 * l + 1)], keep.x_mid, b0, count, {z[0], z[1]});
    const auto h = rows(keep.h, b0, count);
    linear(h, z[0], block.ffn->key->weight);
    elementwise(R * F, [&](int64_t first, int64_t last) {
      relu_square_forward(data(h) + first, last - first);
    });
    const auto r = rows(keep.ffn_r, b0, count), v = rows(keep.ffn_v, b0, count);
    linear(r, z[1], block.ffn->receptance->weight);
    linear(v, h, block.ffn->value->weight);
    if (!advance) return;
    float* x_out = data(x[static_cast<size_t>(l + 1)]) + b0 * T * C;
    elementwise(R * C, [&](int64_t first, int64_t last) {
      gated_residual_forward(x_mid + first, read(r) + first, read(v) + first, x_out + first,
                             last - first);
    });
  }

  // Turns `gradient` of x[l + 1] into that of x[l] and adds the parameters' gradients.
  void block_backward(int64_t l, int64_t b0, int64_t count) {
    auto& block = model.block(l);
    auto& keep = kept[static_cast<size_t>(options.checkpoint_blocks ? 0 : l)];
    if (options.checkpoint_blocks) block_forward(l, b0, count, /*advance=*/false);
    const auto &att = sites[static_cast<size_t>(2 * l)],
               &ffn = sites[static_cast<size_t>(2 * l + 1)];
    const auto& x_in = x[static_cast<size_t>(l)];
    const int64_t R = count * T;
    const auto grad = rows(gradient, b0, count);  // (R, C)
    const std::vector<at::Tensor> z{narrow_scratch(0, count, C), narrow_scratch(1, count, C),
                                    narrow_scratch(2, count, C)};
    const auto a = narrow_scratch(3, count, C), b = narrow_scratch(4, count, C);

    // Channel mix.
    const auto h = rows(keep.h, b0, count);
    const auto r = rows(keep.ffn_r, b0, count), v = rows(keep.ffn_v, b0, count);
    const auto &dr = a, &dv = b;
    elementwise(R * C, [&](int64_t first, int64_t last) {
      gated_residual_backward(read(grad) + first, read(r) + first, read(v) + first,
                              data(dr) + first, data(dv) + first, last - first);
    });
    const auto dh = wide_scratch.narrow(0, 0, R);
    linear_transposed(dh, dv, block.ffn->value->weight);
    add_weight_gradient(block.ffn->value->weight, dv, h);
    elementwise(R * F, [&](int64_t first, int64_t last) {
      relu_square_backward(read(h) + first, data(dh) + first, last - first);
    });
    const auto& ffn_m = factors[static_cast<size_t>(2 * l + 1)];
    mix_forward(ffn, ffn_m, keep.x_mid, b0, count, {z[0], z[1]});
    add_weight_gradient(block.ffn->key->weight, dh, z[0]);
    add_weight_gradient(block.ffn->receptance->weight, dr, z[1]);
    linear_transposed(z[0], dh, block.ffn->key->weight);
    linear_transposed(z[1], dr, block.ffn->receptance->weight);
    mix_backward(ffn, ffn_m, keep.x_mid, b0, count, {z[0], z[1]});

    // Time mix. The kept k, v and r become their own gradients.
    const auto y = rows(keep.y, b0, count);
    add_weight_gradient(block.att->output->weight, grad, y);
    const auto dy = narrow_scratch(3, count, A);
    linear_transposed(dy, grad, block.att->output->weight);
    const auto w = -torch::exp(block.att->time_decay), u = block.att->time_first.contiguous();
    auto grad_w = torch::empty({count, A}, torch::kFloat64),
         grad_u = torch::empty({count, A}, torch::kFloat64);
    for_channels(count, [&](int64_t i, int64_t first, int64_t last) {
      const int64_t at = (b0 + i) * T * A;
      wkv_backward(WkvBackward<float>{T,
                                      A,
                                      A,
                                      first,
                                      last,
                                      read(w),
                                      read(u),
                                      read(keep.k) + at,
                                      read(keep.v) + at,
                                      read(keep.r) + at,
                                      wkv_kept_of(keep, b0 + i),
                                      nullptr,
                                      read(dy) + i * T * A,
                                      nullptr,
                                      data(keep.k) + at,
                                      data(keep.v) + at,
                                      data(keep.r) + at,
                                      grad_w.mutable_data_ptr<double>() + i * A,
                                      grad_u.mutable_data_ptr<double>() + i * A,
                                      nullptr,
                                      nullptr});
    });
    // w = -exp(time_decay), so dw / dtime_decay = w. Of a decay that overflowed nothing is left,
    // and its gradient is 0.
    block.att->time_decay.mutable_grad().add_(grad_w.sum(0) * w.clamp_min(-1e30));
    block.att->time_first.mutable_grad().add_(grad_u.sum(0));
    const auto& att_m = factors[static_cast<size_t>(2 * l)];
    mix_forward(att, att_m, x_in, b0, count, z);
    const auto dk = rows(keep.k, b0, count), dvalue = rows(keep.v, b0, count),
               dreceptance = rows(keep.r, b0, count);
    add_weight_gradient(block.att->key->weight, dk, z[0]);
    add_weight_gradient(block.att->value->weight, dvalue, z[1]);
    add_weight_gradient(block.att->receptance->weight, dreceptance, z[2]);
    linear_transposed(z[0], dk, block.att->key->weight);
    linear_transposed(z[1], dvalue, block.att->value->weight);
    linear_transposed(z[2], dreceptance, block.att->receptance->weight);
    mix_backward(att, att_m, x_in, b0, count, z);
  }

  // Layer norm of rows 0 .. N' of `from`, in parallel.
  void norm_forward(const torch::nn::LayerNorm& norm, const float* from, int64_t count, float* to) {
    const Timed timed(seconds, Operator::kNormAndEmbedding);
    in_parallel(count, 64, [&](int64_t first, int64_t last) {
      layer_norm_forward(from, read(norm->weight), read(norm->bias), C, first, last, to);
    });
  }
  // to <- gradient of the norm's input rows; may be dy.
  void norm_backward(const torch::nn::LayerNorm& norm, const float* from, const float* dy,
                     int64_t count, float* to) {
    const Timed timed(seconds, Operator::kNormAndEmbedding);
    const int64_t tasks = (count + 63) / 64;
    parts.resize(static_cast<size_t>(tasks * 2 * C));
    in_parallel(count, 64, [&](int64_t first, int64_t last) {
      layer_norm_backward(from, read(norm->weight), dy, C, first, last, to,
                          parts.data() + first / 64 * 2 * C);
    });
    add_partial_sums(parts.data(), tasks, 2, C, {{0, norm->weight}, {1, norm->bias}});
  }

  void embed(const std::int64_t* inputs) {
    const float* table = read(model.emb->weight);
    for (int64_t i = 0; i < used; ++i)
      TORCH_CHECK(inputs[i] >= 0 && inputs[i] < V, "TrainingPass: token ", inputs[i],
                  " is outside the vocabulary of ", V);
    in_parallel(used, 64, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i)
        std::memcpy(data(embedded) + i * C, table + inputs[i] * C,
                    static_cast<size_t>(C) * sizeof(float));
    });
    norm_forward(model.block(0).ln0, read(embedded), used, data(x[0]));
  }
  void embed_backward(const std::int64_t* inputs) {
    norm_backward(model.block(0).ln0, read(embedded), read(gradient), used, data(gradient));
    const Timed timed(seconds, Operator::kNormAndEmbedding);
    float* grad = data(model.emb->weight.grad());
    // By channels, so that tokens that occur twice never meet in two threads.
    in_parallel(C, 16, [&](int64_t first, int64_t last) {
      for (int64_t i = 0; i < used; ++i)
        add_to(grad + inputs[i] * C + first, read(gradient) + i * C + first, last - first);
    });
  }

  // Losses of `count` rows of logits, which become their gradients times `scale`.
  void cross_entropy(const at::Tensor& rows, const std::int64_t* targets, int64_t count,
                     double scale, double* losses) {
    const Timed timed(seconds, Operator::kLoss);
    in_parallel(count, 8, [&](int64_t first, int64_t last) {
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
      const auto normal = normalised.narrow(0, 0, count), out = logits.narrow(0, 0, count);
      const float* from = read(last_x) + begin * C;
      norm_forward(model.ln_out, from, count, data(normal));
      linear(out, normal, model.head->weight);
      cross_entropy(out, targets + begin, count, scale, losses.data() + begin);
      if (scale == 0) continue;
      add_weight_gradient(model.head->weight, out, normal);
      linear_transposed(gradient.narrow(0, begin, count), out, model.head->weight);
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
    const torch::NoGradGuard no_grad;
    B = B_, T = T_, used = B * T;
    TORCH_CHECK(B > 0 && T > 0 && used <= N && T <= longest && B * wkv_segments(T) <= kept_states(),
                "TrainingPass: made for ", N, " tokens in sequences of at most ", longest, ", got ",
                B, " of ", T);
    if (config.shift.enabled() && config.shift.features() > 0)
      phi = position_features(config.shift.pos, torch::zeros({1}, torch::kInt64), T)
                .squeeze(0)
                .to(torch::kFloat32)
                .contiguous();  // (T, F)
    find_factors();
    embed(inputs);
    for (int64_t l = 0; l < L; ++l)
      for_groups([&](int64_t b0, int64_t count) { block_forward(l, b0, count, true); });
    const double mean =
        head(targets, scale / static_cast<double>(used)) / static_cast<double>(used);
    if (scale == 0) return mean;
    for (int64_t l = L - 1; l >= 0; --l)
      for_groups([&](int64_t b0, int64_t count) { block_backward(l, b0, count); });
    embed_backward(inputs);
    return mean;
  }

  RwkvImpl& model;
  ModelConfig config;
  TrainingPassOptions options;
  int64_t N, longest, L = 0, C = 0, A = 0, F = 0, V = 0, group_tokens = 0, head_rows = 0;
  int64_t B = 0, T = 0, used = 0;
  std::vector<Site> sites;          // att and ffn of each block in turn
  std::vector<at::Tensor> factors;  // of the sites
  std::vector<at::Tensor> x;        // (N, C), input of each block, then of ln_out
  std::vector<Kept> kept;
  at::Tensor embedded, gradient;  // (N, C)
  at::Tensor scratch[5], wide_scratch, logits, normalised, zero_state, wkv_zero, phi;
  std::vector<float> parts;
  OperatorSeconds seconds{};
};

std::string TrainingPass::lacks(const ModelConfig& config) {
  if (!config.shift.enabled()) return "";
  const auto form = config.shift.gate_form();
  if (form != "diag" && form != "one") return "the gate " + form;
  if (config.shift.has_conv() && config.shift.kernel > kShiftMixTaps)
    return "a shift of " + std::to_string(config.shift.kernel) + " taps, more than " +
           std::to_string(kShiftMixTaps);
  return "";
}

std::string slow_training_note(const ModelConfig& config) {
  const auto lacking = TrainingPass::lacks(config);
  if (lacking.empty()) return "";
  return "the fused operators do not have " + lacking +
         ": the reference modules train this model, at about half the speed";
}

double TrainingPass::buffer_bytes(const ModelConfig& config, std::int64_t tokens,
                                  std::int64_t longest, const TrainingPassOptions& options) {
  const double N = static_cast<double>(tokens), L = static_cast<double>(config.n_layer),
               C = static_cast<double>(config.n_embd),
               A = static_cast<double>(config.att_channels()),
               F = static_cast<double>(config.ffn_channels()),
               V = static_cast<double>(config.vocab_size);
  const double sets = options.checkpoint_blocks ? 1 : L;
  const double group =
      std::min(N, static_cast<double>(std::max(longest, kGroupFloats / config.n_embd)));
  const double head_rows =
      std::min(N, std::max(static_cast<double>(kLogitFloats) / V, std::min(N, 128.0)));
  const double floats = N * C * (L + 3) +
                        sets * N * (4 * A + 3 * C + F + 3 * A / static_cast<double>(kWkvSegment)) +
                        group * (5 * std::max(A, C) + F) + head_rows * (V + C);
  return floats * sizeof(float);
}

TrainingPass::TrainingPass(RwkvImpl& model, std::int64_t tokens, std::int64_t longest,
                           const TrainingPassOptions& options)
    : impl_(std::make_unique<Impl>(model, tokens, longest, options)) {}
TrainingPass::~TrainingPass() = default;

const OperatorSeconds& TrainingPass::seconds() const { return impl_->seconds; }
double TrainingPass::loss_and_gradients(const std::int64_t* inputs, const std::int64_t* targets,
                                        std::int64_t B, std::int64_t T, double scale) {
  return impl_->run(inputs, targets, B, T, scale);
}
double TrainingPass::loss(const std::int64_t* inputs, const std::int64_t* targets, std::int64_t B,
                          std::int64_t T) {
  return impl_->run(inputs, targets, B, T, 0);
}

}  // namespace rwkvx
