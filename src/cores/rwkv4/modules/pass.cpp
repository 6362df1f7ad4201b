#include "cores/rwkv4/modules/pass.h"

#include <ATen/ATen.h>

#include "cores/modules/activations.h"
#include "cores/rwkv4/cuda/wkv_emulate.h"
#include "cores/rwkv4/modules/block.h"
#include "cores/rwkv4/modules/wkv.h"
#include "cores/rwkv4/wkv_kernel.h"
#include "cores/shift/modules/pass.h"

namespace rwkvx::rwkv4 {
namespace {

constexpr int64_t kWkvChannels = 64;  // of one task
static_assert(kWkvSegment == cuda::kWkvKeptEvery);

const float* read(const at::Tensor& t) { return PassTools::read(t); }
float* data(const at::Tensor& t) { return PassTools::data(t); }

// Of a block's rows: tokens of a batch, WKV states and channels.
struct Sizes {
  Sizes(const ModelConfig& config, const PassLimits& limits)
      : N(limits.tokens),
        states(kept_states(limits, kWkvSegment)),
        C(config.n_embd),
        A(config.att_channels()),
        F(config.ffn_channels()) {}
  int64_t N, states, C, A, F;
};

// What the backward pass needs, of all N tokens.
struct Kept {
  at::Tensor k, v, r, y;    // (N, A)
  at::Tensor wkv;           // (sequences, segments, 3, A), flat
  at::Tensor x_mid;         // (N, C)
  at::Tensor h;             // (N, F)
  at::Tensor ffn_r, ffn_v;  // (N, C)
};
Kept take_kept(const Sizes& size, PassMemory& memory) {
  const auto wide = [&](int64_t width) { return memory.take_activation({size.N, width}); };
  Kept kept;
  for (auto* one : {&kept.k, &kept.v, &kept.r, &kept.y}) *one = wide(size.A);
  kept.wkv = memory.take({size.states, 3 * size.A});
  kept.x_mid = memory.take({size.N, size.C});
  kept.h = wide(size.F);
  for (auto* one : {&kept.ffn_r, &kept.ffn_v}) *one = wide(size.C);
  return kept;
}

// What R rows need while they go through the block.
struct Scratch {
  at::Tensor z[5], dy, wide;  // (R, C) each, (R, A), (R, F)
};
Scratch take_scratch(const Sizes& size, int64_t R, PassMemory& memory) {
  Scratch own;
  for (auto& one : own.z) {
    auto widest = memory.take_activation({R * std::max(size.A, size.C)});
    one = widest.narrow(0, 0, R * size.C).view({R, size.C});
    if (&one == &own.z[3])  // in z[3]'s place
      own.dy = widest.narrow(0, 0, R * size.A).view({R, size.A});
  }
  own.wide = memory.take_activation({R, size.F});
  return own;
}

// Runs a kernel's call with the segments that fill a device.
template <class Call>
void run_wkv(Call& call, const at::Tensor& place) {
  call.segment = cuda::wkv_segment(call.B, call.T, call.C);
  const auto workspace = at::empty({cuda::wkv_workspace(call.B, call.T, call.C, call.segment)},
                                   place.options().dtype(at::kFloat));
  call.workspace = cuda::mutable_data<float>(workspace);
  cuda::run(call, place);
}

class Pass : public BlockPass {
 public:
  explicit Pass(const PassSetup& setup)
      : tools_(setup.tools),
        block_(std::dynamic_pointer_cast<Rwkv4BlockImpl>(setup.block)),
        size_(setup.config, setup.limits),
        places_(setup.config),
        layer_(setup.layer),
        wkv_op_(tools_.operator_at("wkv")),
        act_(tools_),
        wkv_zero_(wkv_start(1, size_.A, at::kFloat)),
        att_(setup.config, tools_, places_.att, block_->ln1, block_->att.shift,
             {block_->att.time_mix_k, block_->att.time_mix_v, block_->att.time_mix_r}),
        ffn_(setup.config, tools_, places_.ffn, block_->ln2, block_->ffn.shift,
             {block_->ffn.time_mix_k, block_->ffn.time_mix_r}) {}

  void begin() override {
    kept_before_ = tools_.kept_before(kWkvSegment);
    TORCH_CHECK(kept_before_.back() <= size_.states, "TrainingPass: ", tools_.sequences.size(),
                " sequences keep more states than there is room for");
    att_.begin();
    ffn_.begin();
  }
  void forward(const PassRows& rows) override;
  void backward(const PassRows& rows) override;

 private:
  Kept kept(const PassRows& rows) const {
    PassMemory memory(tools_.place, rows.kept);
    return take_kept(size_, memory);
  }
  Scratch scratch(const PassRows& rows) const {
    PassMemory memory(tools_.place, rows.scratch);
    return take_scratch(size_, rows.tokens, memory);
  }
  // The rows of a group among those of all.
  at::Tensor of(const at::Tensor& all, const PassRows& rows) const {
    return all.narrow(0, rows.begin, rows.tokens);
  }
  float* wkv_of(const Kept& keep, int64_t b) const {
    return data(keep.wkv) + kept_before_[static_cast<size_t>(b)] * 3 * size_.A;
  }
  // A sequence's WKV state, (3, A), or null.
  float* state_of(const LayerState* state, int64_t b) const {
    return PassTools::state_of(state, places_.wkv, b);
  }
  // Calls run(sequence of the batch, first channel, last).
  template <class Run>
  void for_channels(const PassRows& rows, const Run& run) const {
    const PassTools::Timed timed(tools_, wkv_op_);
    const int64_t blocks = (size_.A + kWkvChannels - 1) / kWkvChannels;
    PassTools::in_parallel(rows.count * blocks, 1, [&](int64_t task, int64_t) {
      const int64_t first = task % blocks * kWkvChannels;
      run(rows.first + task / blocks, first, std::min(size_.A, first + kWkvChannels));
    });
  }
  void wkv(const PassRows& rows, const Kept& keep) const;
  // From dy to the gradients of k, v and r, which take their places, and to the parameters'.
  void wkv_adjoint(const PassRows& rows, const Kept& keep, const at::Tensor& dy) const;
  void wkv_on_device(const PassRows& rows, const Kept& keep) const;
  void wkv_adjoint_on_device(const PassRows& rows, const Kept& keep, const at::Tensor& dy) const;
  // -e^time_decay, and the bonus, (A) each.
  at::Tensor decay() const { return -at::exp(block_->att.time_decay); }
  at::Tensor bonus() const { return block_->att.time_first.contiguous(); }
  // From the gradients of these, (…, A), rows of which are summed.
  void add_decay_and_bonus(const at::Tensor& grad_w, const at::Tensor& grad_u) const;

  PassTools& tools_;
  std::shared_ptr<Rwkv4BlockImpl> block_;
  Sizes size_;
  StatePlaces places_;
  int64_t layer_;
  std::vector<int64_t> kept_before_;
  std::size_t wkv_op_;
  Activations act_;
  at::Tensor wkv_zero_;
  ShiftPass att_, ffn_;
};

void Pass::wkv(const PassRows& rows, const Kept& keep) const {
  if (tools_.place.kernels) return wkv_on_device(rows, keep);
  const int64_t A = size_.A;
  const auto w = decay(), u = bonus();
  for_channels(rows, [&](int64_t b, int64_t first, int64_t last) {
    const auto& one = tools_.sequences[static_cast<size_t>(b)];
    const int64_t at = one.begin * A;
    const float* before = state_of(rows.before, b);
    wkv_forward(WkvForward<float>{one.tokens, A, A, first, last, read(w), read(u),
                                  read(keep.k) + at, read(keep.v) + at, read(keep.r) + at,
                                  data(keep.y) + at, before != nullptr ? before : read(wkv_zero_),
                                  state_of(rows.after, b), wkv_of(keep, b)});
  });
}

void Pass::wkv_adjoint(const PassRows& rows, const Kept& keep, const at::Tensor& dy) const {
  if (tools_.place.kernels) return wkv_adjoint_on_device(rows, keep, dy);
  const int64_t A = size_.A;
  const auto w = decay(), u = bonus();
  auto grad_w = at::empty({rows.count, A}, at::kDouble),
       grad_u = at::empty({rows.count, A}, at::kDouble);
  for_channels(rows, [&](int64_t b, int64_t first, int64_t last) {
    const auto& one = tools_.sequences[static_cast<size_t>(b)];
    const int64_t at = one.begin * A, i = b - rows.first;
    wkv_backward(WkvBackward<float>{one.tokens,
                                    A,
                                    A,
                                    first,
                                    last,
                                    read(w),
                                    read(u),
                                    read(keep.k) + at,
                                    read(keep.v) + at,
                                    read(keep.r) + at,
                                    wkv_of(keep, b),
                                    state_of(rows.after, b),
                                    read(dy) + (one.begin - rows.begin) * A,
                                    state_of(rows.grad_after, b),
                                    data(keep.k) + at,
                                    data(keep.v) + at,
                                    data(keep.r) + at,
                                    grad_w.mutable_data_ptr<double>() + i * A,
                                    grad_u.mutable_data_ptr<double>() + i * A,
                                    state_of(rows.grad_before, b),
                                    state_of(rows.before, b)});
  });
  add_decay_and_bonus(grad_w, grad_u);
}

void Pass::wkv_on_device(const PassRows& rows, const Kept& keep) const {
  const PassTools::Timed timed(tools_, wkv_op_);
  const auto w = decay(), u = bonus();
  for (const auto& run : tools_.runs(rows.first, rows.count))
    cuda::with_type(tools_.place.type, [&]<class Value>() {
      const int64_t at = run.begin * size_.A;
      cuda::WkvForwardCall<Value> call{};
      call.B = run.count, call.T = run.tokens, call.C = size_.A;
      call.w = read(w), call.u = read(u);
      call.k = cuda::data<Value>(keep.k) + at;
      call.v = cuda::data<Value>(keep.v) + at;
      call.r = cuda::data<Value>(keep.r) + at;
      call.y = cuda::mutable_data<Value>(keep.y) + at;
      call.state_in = state_of(rows.before, run.first);
      call.state_out = state_of(rows.after, run.first);
      if (tools_.keeps) call.kept = wkv_of(keep, run.first);
      run_wkv(call, keep.k);
    });
}

void Pass::wkv_adjoint_on_device(const PassRows& rows, const Kept& keep,
                                 const at::Tensor& dy) const {
  const PassTools::Timed timed(tools_, wkv_op_);
  const auto w = decay(), u = bonus();
  for (const auto& run : tools_.runs(rows.first, rows.count)) {
    auto grad_w = at::empty({run.count, size_.A}, w.options()), grad_u = at::empty_like(grad_w);
    cuda::with_type(tools_.place.type, [&]<class Value>() {
      const int64_t at = run.begin * size_.A;
      cuda::WkvBackwardCall<Value> call{};
      call.B = run.count, call.T = run.tokens, call.C = size_.A;
      call.w = read(w), call.u = read(u);
      call.k = cuda::data<Value>(keep.k) + at;
      call.v = cuda::data<Value>(keep.v) + at;
      call.r = cuda::data<Value>(keep.r) + at;
      call.kept = wkv_of(keep, run.first);
      call.state_in = state_of(rows.before, run.first);
      call.grad_y = cuda::data<Value>(dy) + (run.begin - rows.begin) * size_.A;
      call.grad_k = cuda::mutable_data<Value>(keep.k) + at;
      call.grad_v = cuda::mutable_data<Value>(keep.v) + at;
      call.grad_r = cuda::mutable_data<Value>(keep.r) + at;
      call.grad_w = data(grad_w), call.grad_u = data(grad_u);
      run_wkv(call, keep.k);
    });
    add_decay_and_bonus(grad_w, grad_u);
  }
}

void Pass::add_decay_and_bonus(const at::Tensor& grad_w, const at::Tensor& grad_u) const {
  const auto& att = block_->att;
  // w = -exp(time_decay), so dw / dtime_decay = w. Of a decay that overflowed nothing is left, and
  // its gradient is 0.
  if (att.time_decay.grad().defined())
    att.time_decay.grad().add_(grad_w.sum(0) * decay().clamp_min(-1e30));
  if (att.time_first.grad().defined()) att.time_first.grad().add_(grad_u.sum(0));
}

void Pass::forward(const PassRows& rows) {
  const auto& att = block_->att;
  const auto& ffn = block_->ffn;
  const auto keep = kept(rows);
  const auto own = scratch(rows);

  att_.forward(rows, rows.x, {own.z[0], own.z[1], own.z[2]});
  tools_.linear(of(keep.k, rows), own.z[0], att.key);
  tools_.linear(of(keep.v, rows), own.z[1], att.value);
  tools_.linear(of(keep.r, rows), own.z[2], att.receptance);
  wkv(rows, keep);
  tools_.linear(own.z[0], of(keep.y, rows), att.output);
  const auto x_mid = of(keep.x_mid, rows);
  act_.residual(of(rows.x, rows), own.z[0], x_mid);
  tools_.drop(x_mid, rows.begin * size_.C, 2 * layer_ + 1);

  ffn_.forward(rows, keep.x_mid, {own.z[0], own.z[1]});
  const auto h = of(keep.h, rows);
  tools_.linear(h, own.z[0], ffn.key);
  act_.relu_square(h);
  const auto r = of(keep.ffn_r, rows), v = of(keep.ffn_v, rows);
  tools_.linear(r, own.z[1], ffn.receptance);
  tools_.linear(v, h, ffn.value);
  if (!rows.x_out.defined()) return;
  const auto x_out = of(rows.x_out, rows);
  act_.gated_residual(x_mid, r, v, x_out);
  tools_.drop(x_out, rows.begin * size_.C, 2 * layer_ + 2);
}

void Pass::backward(const PassRows& rows) {
  const auto& att = block_->att;
  const auto& ffn = block_->ffn;
  const auto keep = kept(rows);
  const auto own = scratch(rows);
  const auto& z = own.z;
  const auto grad = of(rows.dx, rows);  // (R, C)
  tools_.drop(grad, rows.begin * size_.C, 2 * layer_ + 2);

  // Channel mix.
  const auto h = of(keep.h, rows), r = of(keep.ffn_r, rows), v = of(keep.ffn_v, rows);
  const auto &dr = z[3], &dv = z[4], &dh = own.wide;
  act_.gated_residual_adjoint(grad, r, v, dr, dv);
  tools_.linear_transposed(dh, dv, ffn.value);
  tools_.add_weight_gradient(ffn.value, dv, h);
  act_.relu_square_adjoint(h, dh);
  ffn_.forward(rows, keep.x_mid, {z[0], z[1]});
  tools_.add_weight_gradient(ffn.key, dh, z[0]);
  tools_.add_weight_gradient(ffn.receptance, dr, z[1]);
  tools_.linear_transposed(z[0], dh, ffn.key);
  tools_.linear_transposed(z[1], dr, ffn.receptance);
  ffn_.backward(rows, keep.x_mid, {z[0], z[1]}, rows.dx);
  tools_.drop(grad, rows.begin * size_.C, 2 * layer_ + 1);

  // Time mix.
  const auto dout = tools_.operand(grad), &dy = own.dy;
  tools_.add_weight_gradient(att.output, dout, of(keep.y, rows));
  tools_.linear_transposed(dy, dout, att.output);
  wkv_adjoint(rows, keep, dy);
  att_.forward(rows, rows.x, {z[0], z[1], z[2]});
  const auto dk = of(keep.k, rows), dvalue = of(keep.v, rows), dreceptance = of(keep.r, rows);
  tools_.add_weight_gradient(att.key, dk, z[0]);
  tools_.add_weight_gradient(att.value, dvalue, z[1]);
  tools_.add_weight_gradient(att.receptance, dreceptance, z[2]);
  tools_.linear_transposed(z[0], dk, att.key);
  tools_.linear_transposed(z[1], dvalue, att.value);
  tools_.linear_transposed(z[2], dreceptance, att.receptance);
  att_.backward(rows, rows.x, {z[0], z[1], z[2]}, rows.dx);
}

}  // namespace

std::unique_ptr<BlockPass> make_pass(const PassSetup& setup) {
  return std::make_unique<Pass>(setup);
}

std::string pass_lacks(const ModelConfig& config, const PassPlace&) {
  return ShiftPass::lacks(config);
}

PassFloats pass_floats(const ModelConfig& config, const PassLimits& limits) {
  const Sizes size(config, limits);
  PassMemory kept(limits.place), scratch(limits.place);
  take_kept(size, kept);
  take_scratch(size, limits.group_tokens, scratch);
  return {kept.floats(), scratch.floats()};
}

}  // namespace rwkvx::rwkv4
