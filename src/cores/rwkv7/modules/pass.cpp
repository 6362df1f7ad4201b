#include "cores/rwkv7/modules/pass.h"

#include <ATen/ATen.h>

#include "cores/modules/activations.h"
#include "cores/rwkv7/cuda/head_emulate.h"
#include "cores/rwkv7/cuda/wkv_emulate.h"
#include "cores/rwkv7/head_kernel.h"
#include "cores/rwkv7/modules/block.h"
#include "cores/rwkv7/wkv_kernel.h"
#include "cores/shift/modules/pass.h"

namespace rwkvx::rwkv7 {
namespace {

const float* read(const at::Tensor& t) { return PassTools::read(t); }
float* data(const at::Tensor& t) { return PassTools::data(t); }

static_assert(kWkv7Segment == cuda::kWkv7KeptEvery);
static_assert(kHeadGradRows == cuda::kHeadSums);

// Of a block's rows: tokens of a batch, its sequences and kept states, beside the model's own
// sizes.
struct PassSizes : Sizes {
  PassSizes(const ModelConfig& config, const PassLimits& limits)
      : Sizes(config),
        tokens(limits.tokens),
        sequences(most_sequences(limits, kWkv7Segment)),
        states(kept_states(limits, kWkv7Segment)),
        on_device(limits.place.kernels) {}
  int64_t tokens, sequences, states;
  bool on_device;
  int64_t widest_rank() const { return std::max({decay, iclr, value, gate}); }
};

// What the backward pass needs, of all tokens.
struct Kept {
  at::Tensor r, k, v, g, w, a, share;  // (tokens, C), what head_forward() takes
  at::Tensor w_in, a_in, v_in, g_in;   // (tokens, rank), what the pairs' second matrices take
  at::Tensor y, out;                   // (tokens, C), of head_forward()
  at::Tensor states;                   // (states, C N)
  at::Tensor sa, after;                // on a device: (tokens, C), and (sequences, C N)
  at::Tensor x_mid;                    // (tokens, C)
  at::Tensor h;                        // (tokens, F)
};
Kept take_kept(const PassSizes& size, PassMemory& memory) {
  const auto wide = [&](int64_t width) { return memory.take_activation({size.tokens, width}); };
  Kept kept;
  for (auto* one :
       {&kept.r, &kept.k, &kept.v, &kept.g, &kept.w, &kept.a, &kept.share, &kept.y, &kept.out})
    *one = wide(size.C);
  kept.x_mid = memory.take({size.tokens, size.C});
  kept.w_in = wide(size.decay), kept.a_in = wide(size.iclr);
  kept.v_in = wide(size.value), kept.g_in = wide(size.gate);
  kept.states = memory.take({size.states, size.C * size.N});
  if (size.on_device) {
    kept.sa = memory.take({size.tokens, size.C});
    kept.after = memory.take({size.sequences, size.C * size.N});
  }
  kept.h = wide(size.F);
  return kept;
}

// What R rows need while they go through the block.
struct Scratch {
  at::Tensor z[6];  // (R, C): r, w, k, v, a, g
  at::Tensor wide;  // (R, F)
  at::Tensor rank;  // (R widest rank)
  // On a device: the decay's factors, (R, C), which become their gradients; what the bonus gives to
  // the values, (R, C), and its own gradient, (R, H).
  at::Tensor d, bonus_value, bonus;
};
Scratch take_scratch(const PassSizes& size, int64_t R, PassMemory& memory) {
  Scratch own;
  for (auto& one : own.z) one = memory.take_activation({R, size.C});
  own.wide = memory.take_activation({R, size.F});
  own.rank = memory.take_activation({R * size.widest_rank()});
  if (size.on_device) {
    own.d = memory.take({R, size.C});
    own.bonus_value = memory.take_activation({R, size.C});
    own.bonus = memory.take({R, size.H});
  }
  return own;
}

// What blocks share: the first one's values, and their gradient.
struct Shared {
  at::Tensor v_first, grad_v_first;  // (tokens, C)
};
Shared take_shared(const PassSizes& size, PassMemory& memory) {
  return {memory.take_activation({size.tokens, size.C}), memory.take({size.tokens, size.C})};
}

class Pass : public BlockPass {
 public:
  explicit Pass(const PassSetup& setup)
      : tools_(setup.tools),
        first_(setup.layer == 0),
        last_(setup.layer + 1 == setup.config.n_layer),
        block_(std::dynamic_pointer_cast<Rwkv7BlockImpl>(setup.block)),
        size_(setup.config, setup.limits),
        places_(setup.config),
        layer_(setup.layer),
        wkv_op_(tools_.operator_at("wkv")),
        act_(tools_),
        att_(setup.config, tools_, places_.att, block_->ln1, block_->att.shift,
             {block_->att.x_r, block_->att.x_w, block_->att.x_k, block_->att.x_v, block_->att.x_a,
              block_->att.x_g},
             MixShares::kBefore),
        ffn_(setup.config, tools_, places_.ffn, block_->ln2, block_->ffn.shift, {block_->ffn.x_k},
             MixShares::kBefore) {}

  void begin() override {
    kept_before_ = tools_.kept_before(kWkv7Segment);
    TORCH_CHECK(kept_before_.back() <= size_.states, "TrainingPass: ", tools_.sequences.size(),
                " sequences keep more states than there is room for");
    att_.begin();
    ffn_.begin();
  }
  void forward(const PassRows& rows) override;
  void backward(const PassRows& rows) override;

 private:
  // A part of all tokens' memory: that of the rows of a group.
  at::Tensor of(const at::Tensor& all, const PassRows& rows) const {
    return all.narrow(0, rows.begin, rows.tokens);
  }
  Kept kept(const PassRows& rows) const {
    PassMemory memory(tools_.place, rows.kept);
    auto keep = take_kept(size_, memory);
    if (first_) keep.v = shared(rows).v_first;
    return keep;
  }
  Shared shared(const PassRows& rows) const {
    PassMemory memory(tools_.place, rows.shared);
    return take_shared(size_, memory);
  }
  Scratch scratch(const PassRows& rows) const {
    PassMemory memory(tools_.place, rows.scratch);
    return take_scratch(size_, rows.tokens, memory);
  }
  at::Tensor rank_rows(const Scratch& own, int64_t R, const at::Tensor& like) const {
    const int64_t width = like.size(1);
    return own.rank.narrow(0, 0, R * width).view({R, width});
  }
  HeadWeights weights() const;
  HeadRows head_rows(const Kept& keep, const Shared& hand, int64_t b) const;
  const PassSequence& sequence(int64_t b) const { return tools_.sequences[static_cast<size_t>(b)]; }
  // The states that a head keeps of a sequence.
  float* kept_of(const Kept& keep, int64_t b, int64_t head) const {
    const int64_t before = kept_before_[static_cast<size_t>(b)],
                  own = kept_before_[static_cast<size_t>(b + 1)] - before;
    return data(keep.states) + (before * size_.H + head * own) * size_.N * size_.N;
  }
  // A head's state of a sequence, (N, N), or null.
  float* state_of(const LayerState* state, int64_t b, int64_t head) const {
    float* heads = PassTools::state_of(state, places_.wkv, b);
    return heads == nullptr ? nullptr : heads + head * size_.N * size_.N;
  }
  template <class Run>
  void for_heads(const PassRows& rows, const Run& run) const {
    const PassTools::Timed timed(tools_, wkv_op_);
    PassTools::in_parallel(rows.count * size_.H, 1, [&](int64_t task, int64_t) {
      run(rows.first + task / size_.H, task % size_.H);
    });
  }
  // From the gradient of a pair's result to that of what its second matrix takes.
  template <class Adjoint>
  at::Tensor second_adjoint(const Scratch& own, const at::Tensor& grad, const at::Tensor& in,
                            const Rwkv7BlockImpl::Pair& pair, const Adjoint& adjoint) const;
  // From the rows that the products gave to `out`.
  void heads(const PassRows& rows, const Kept& keep, const Scratch& own) const;
  // From the gradient of `out`, z[0], to those of the rows, which take their places, and to the
  // parameters'.
  void heads_adjoint(const PassRows& rows, const Kept& keep, const Scratch& own) const;
  void heads_on_device(const PassRows& rows, const Kept& keep, const Scratch& own) const;
  void heads_adjoint_on_device(const PassRows& rows, const Kept& keep, const Scratch& own) const;
  template <class Value>
  cuda::HeadInputs<Value> head_inputs(const PassRows& rows, const Kept& keep) const;
  template <class Value>
  void find_recurrence(const PassRows& rows, const Kept& keep, const Scratch& own) const;
  // The parameters whose gradients come from a head, with their rows among its sums.
  std::vector<std::pair<int64_t, at::Tensor>> head_parameters() const;
  void channel_mix_backward(const PassRows& rows, const Kept& keep, const Scratch& own);
  void time_mix_backward(const PassRows& rows, const Kept& keep, const Scratch& own);

  PassTools& tools_;
  bool first_, last_;
  std::shared_ptr<Rwkv7BlockImpl> block_;
  PassSizes size_;
  StatePlaces places_;
  int64_t layer_;
  std::vector<int64_t> kept_before_;
  std::size_t wkv_op_;
  Activations act_;
  ShiftPass att_, ffn_;
};

HeadWeights Pass::weights() const {
  const auto& att = block_->att;
  return {size_.N,       read(att.w0),  read(att.a0),          read(att.v0),       read(att.k_k),
          read(att.k_a), read(att.r_k), read(att.ln_x.weight), read(att.ln_x.bias)};
}

HeadRows Pass::head_rows(const Kept& keep, const Shared& hand, int64_t b) const {
  const auto& one = sequence(b);
  const int64_t C = size_.C;
  const auto at = [&](const at::Tensor& all) { return read(all) + one.begin * C; };
  HeadRows rows{one.tokens, C,          at(keep.r), at(keep.k),
                at(keep.v), at(keep.g), at(keep.w), at(keep.a)};
  if (!first_) rows.share = at(keep.share), rows.v_first = at(hand.v_first);
  return rows;
}

std::vector<std::pair<int64_t, at::Tensor>> Pass::head_parameters() const {
  const auto& att = block_->att;
  std::vector<std::pair<int64_t, at::Tensor>> all{
      {0, att.w0},  {1, att.a0},          {3, att.k_k},      {4, att.k_a},
      {5, att.r_k}, {6, att.ln_x.weight}, {7, att.ln_x.bias}};
  if (!first_) all.emplace_back(2, att.v0);
  return all;
}

void Pass::heads(const PassRows& rows, const Kept& keep, const Scratch& own) const {
  if (size_.on_device) return heads_on_device(rows, keep, own);
  const auto hand = shared(rows);
  const int64_t C = size_.C;
  for_heads(rows, [&](int64_t b, int64_t head) {
    HeadForward call{weights(), head_rows(keep, hand, b)};
    call.out = data(keep.out) + sequence(b).begin * C;
    call.y = data(keep.y) + sequence(b).begin * C;
    call.kept = kept_of(keep, b, head);
    call.state_in = state_of(rows.before, b, head);
    call.state_out = state_of(rows.after, b, head);
    head_forward(call, head);
  });
}

void Pass::heads_adjoint(const PassRows& rows, const Kept& keep, const Scratch& own) const {
  if (size_.on_device) return heads_adjoint_on_device(rows, keep, own);
  const auto hand = shared(rows);
  const int64_t b0 = rows.first, C = size_.C;
  auto& parts = tools_.parts;
  parts.resize(static_cast<std::size_t>(rows.count * kHeadGradRows * C));
  for_heads(rows, [&](int64_t b, int64_t head) {
    const int64_t begin = sequence(b).begin;
    const auto at = [&](const at::Tensor& all) { return data(all) + begin * C; };
    HeadBackward call{weights(), head_rows(keep, hand, b)};
    call.y = at(keep.y);
    call.kept = kept_of(keep, b, head);
    call.grad_out = read(own.z[0]) + (begin - rows.begin) * C;
    call.grad_state_out = state_of(rows.grad_after, b, head);
    call.grad_state_in = state_of(rows.grad_before, b, head);
    call.grad_r = at(keep.r), call.grad_k = at(keep.k), call.grad_v = at(keep.v);
    call.grad_g = at(keep.g), call.grad_w = at(keep.w), call.grad_a = at(keep.a);
    if (!first_) call.grad_share = at(keep.share);
    call.grad_v_first = at(hand.grad_v_first);
    call.sums = parts.data() + (b - b0) * kHeadGradRows * C;
    head_backward(call, head);
  });
  tools_.add_partial_sums(rows.count, kHeadGradRows, C, head_parameters());
}

template <class Value>
cuda::HeadInputs<Value> Pass::head_inputs(const PassRows& rows, const Kept& keep) const {
  const auto at = [&](const at::Tensor& all) {
    return cuda::data<Value>(all) + rows.begin * size_.C;
  };
  const auto own = weights();
  cuda::HeadInputs<Value> in{};
  in.rows = rows.tokens, in.H = size_.H, in.N = size_.N;
  in.w0 = own.w0, in.a0 = own.a0, in.v0 = own.v0, in.k_k = own.k_k, in.k_a = own.k_a;
  in.r_k = own.r_k, in.norm_weight = own.norm_weight, in.norm_bias = own.norm_bias;
  in.r = at(keep.r), in.k = at(keep.k), in.v = at(keep.v), in.g = at(keep.g);
  in.w = at(keep.w), in.a = at(keep.a);
  if (!first_) in.share = at(keep.share), in.v_first = at(shared(rows).v_first);
  return in;
}

// What the recurrence takes beside r: d, and in z[1] to z[4] key, value, z, b.
template <class Value>
void Pass::find_recurrence(const PassRows& rows, const Kept& keep, const Scratch& own) const {
  const auto at = [&](int i) { return cuda::mutable_data<Value>(own.z[i]); };
  cuda::run(cuda::HeadBeforeCall<Value>{head_inputs<Value>(rows, keep), data(own.d), at(1), at(2),
                                        at(3), at(4)},
            keep.r);
}

void Pass::heads_on_device(const PassRows& rows, const Kept& keep, const Scratch& own) const {
  const PassTools::Timed timed(tools_, wkv_op_);
  const int64_t C = size_.C, cells = C * size_.N;
  cuda::with_type(tools_.place.type, [&]<class Value>() {
    find_recurrence<Value>(rows, keep, own);
    for (const auto& run : tools_.runs(rows.first, rows.count)) {
      const int64_t begin = run.begin * C, local = (run.begin - rows.begin) * C;
      const auto at = [&](int i) { return cuda::data<Value>(own.z[i]) + local; };
      cuda::Wkv7ForwardCall<Value> call{};
      call.B = run.count, call.T = run.tokens, call.H = size_.H, call.N = size_.N;
      call.r = cuda::data<Value>(keep.r) + begin, call.d = read(own.d) + local;
      call.k = at(1), call.v = at(2), call.z = at(3), call.b = at(4);
      call.state_in = state_of(rows.before, run.first, 0);
      call.state_out = tools_.keeps || rows.after == nullptr ? data(keep.after) + run.first * cells
                                                             : state_of(rows.after, run.first, 0);
      call.y = cuda::mutable_data<Value>(keep.y) + begin;
      if (tools_.keeps) call.kept = kept_of(keep, run.first, 0), call.sa = data(keep.sa) + begin;
      cuda::run(call, keep.r);
    }
    cuda::run(cuda::HeadAfterCall<Value>{head_inputs<Value>(rows, keep),
                                         cuda::data<Value>(own.z[1]), cuda::data<Value>(own.z[2]),
                                         cuda::data<Value>(keep.y) + rows.begin * C,
                                         cuda::mutable_data<Value>(keep.out) + rows.begin * C},
              keep.r);
  });
  if (rows.after == nullptr || !tools_.keeps) return;
  const auto after = (*rows.after)[static_cast<std::size_t>(places_.wkv)];
  after.narrow(0, rows.first, rows.count)
      .view({rows.count, cells})
      .copy_(keep.after.narrow(0, rows.first, rows.count));
}

void Pass::heads_adjoint_on_device(const PassRows& rows, const Kept& keep,
                                   const Scratch& own) const {
  const PassTools::Timed timed(tools_, wkv_op_);
  const auto hand = shared(rows);
  const int64_t C = size_.C, begin = rows.begin * C, cells = C * size_.N;
  const auto parts =
      at::empty({cuda::head_tiles(rows.tokens), cuda::kHeadSums, C}, own.d.options());
  cuda::with_type(tools_.place.type, [&]<class Value>() {
    const auto in = head_inputs<Value>(rows, keep);
    const auto z = [&](int i) { return cuda::mutable_data<Value>(own.z[i]); };
    const auto of = [&](const at::Tensor& all) { return cuda::mutable_data<Value>(all) + begin; };
    const auto bonus_value = cuda::mutable_data<Value>(own.bonus_value);
    find_recurrence<Value>(rows, keep, own);
    // The recurrence's y becomes its own gradient.
    cuda::run(
        cuda::HeadAfterAdjointCall<Value>{in, z(1), z(2), of(keep.y), z(0), of(keep.y), of(keep.g),
                                          bonus_value, data(own.bonus), data(parts)},
        keep.r);
    // So does all that it took, but r, which is needed again: its gradient goes to z[5].
    for (const auto& run : tools_.runs(rows.first, rows.count)) {
      const int64_t local = (run.begin - rows.begin) * C;
      cuda::Wkv7BackwardCall<Value> call{};
      call.B = run.count, call.T = run.tokens, call.H = size_.H, call.N = size_.N;
      call.r = in.r + local, call.d = read(own.d) + local;
      call.k = z(1) + local, call.v = z(2) + local, call.z = z(3) + local, call.b = z(4) + local;
      call.kept = kept_of(keep, run.first, 0), call.sa = read(keep.sa) + run.begin * C;
      call.state_out = read(keep.after) + run.first * cells;
      call.grad_y = of(keep.y) + local;
      call.grad_r = z(5) + local, call.grad_d = data(own.d) + local;
      call.grad_k = z(1) + local, call.grad_v = z(2) + local;
      call.grad_z = z(3) + local, call.grad_b = z(4) + local;
      cuda::run(call, keep.r);
    }
    cuda::HeadBeforeAdjointCall<Value> call{};
    call.in = in;
    call.grad_d = read(own.d), call.grad_r = z(5), call.grad_key = z(1), call.grad_value = z(2);
    call.grad_z = z(3), call.grad_b = z(4);
    call.bonus_value = bonus_value, call.bonus = read(own.bonus);
    call.to_r = of(keep.r), call.to_k = of(keep.k), call.to_v = of(keep.v);
    call.to_w = of(keep.w), call.to_a = of(keep.a);
    if (!first_) call.to_share = of(keep.share);
    call.to_v_first = data(hand.grad_v_first) + begin;
    call.sums = data(parts);
    cuda::run(call, keep.r);
  });
  PassTools::add_sums(parts.sum(0), head_parameters());
}

void Pass::forward(const PassRows& rows) {
  const auto& att = block_->att;
  const auto& ffn = block_->ffn;
  const auto keep = kept(rows);
  const auto own = scratch(rows);
  const auto& z = own.z;

  att_.forward(rows, rows.x, {z[0], z[1], z[2], z[3], z[4], z[5]});
  tools_.linear(of(keep.r, rows), z[0], att.receptance);
  tools_.linear(of(keep.k, rows), z[2], att.key);
  tools_.linear(of(keep.v, rows), z[3], att.value);
  const auto through = [&](const at::Tensor& in, const at::Tensor& from,
                           const Rwkv7BlockImpl::Pair& pair, const at::Tensor& to, auto&& act) {
    const auto middle = of(in, rows);
    tools_.linear_transposed(middle, from, pair.first);
    act(middle);
    tools_.linear_transposed(of(to, rows), middle, pair.second);
  };
  const auto nothing = [](const at::Tensor&) {};
  through(keep.w_in, z[1], att.w, keep.w, [&](const auto& m) { act_.tanh(m); });
  through(keep.a_in, z[4], att.a, keep.a, nothing);
  if (!first_) through(keep.v_in, z[3], att.v, keep.share, nothing);
  through(keep.g_in, z[5], att.g, keep.g, [&](const auto& m) { act_.sigmoid(m); });
  heads(rows, keep, own);
  tools_.linear(z[0], of(keep.out, rows), att.output);
  const auto x_mid = of(keep.x_mid, rows);
  act_.residual(of(rows.x, rows), z[0], x_mid);
  tools_.drop(x_mid, rows.begin * size_.C, 2 * layer_ + 1);

  ffn_.forward(rows, keep.x_mid, {z[0]});
  const auto h = of(keep.h, rows);
  tools_.linear(h, z[0], ffn.key);
  act_.relu_square(h);
  if (!rows.x_out.defined()) return;
  tools_.linear(z[0], h, ffn.value);
  const auto x_out = of(rows.x_out, rows);
  act_.residual(x_mid, z[0], x_out);
  tools_.drop(x_out, rows.begin * size_.C, 2 * layer_ + 2);
}

void Pass::backward(const PassRows& rows) {
  const auto keep = kept(rows);
  const auto own = scratch(rows);
  const auto grad = of(rows.dx, rows);
  tools_.drop(grad, rows.begin * size_.C, 2 * layer_ + 2);
  channel_mix_backward(rows, keep, own);
  tools_.drop(grad, rows.begin * size_.C, 2 * layer_ + 1);
  time_mix_backward(rows, keep, own);
}

void Pass::channel_mix_backward(const PassRows& rows, const Kept& keep, const Scratch& own) {
  const auto& ffn = block_->ffn;
  const auto& z = own.z[0];
  const auto dout = tools_.operand(of(rows.dx, rows)), h = of(keep.h, rows);
  const auto& dh = own.wide;
  tools_.linear_transposed(dh, dout, ffn.value);
  tools_.add_weight_gradient(ffn.value, dout, h);
  act_.relu_square_adjoint(h, dh);
  ffn_.forward(rows, keep.x_mid, {z});
  tools_.add_weight_gradient(ffn.key, dh, z);
  tools_.linear_transposed(z, dh, ffn.key);
  ffn_.backward(rows, keep.x_mid, {z}, rows.dx);
}

template <class Adjoint>
at::Tensor Pass::second_adjoint(const Scratch& own, const at::Tensor& grad, const at::Tensor& in,
                                const Rwkv7BlockImpl::Pair& pair, const Adjoint& adjoint) const {
  tools_.add_weight_gradient(pair.second, in, grad);
  const auto to = rank_rows(own, grad.size(0), in);
  tools_.linear(to, grad, pair.second);
  adjoint(in, to);
  return to;
}

void Pass::time_mix_backward(const PassRows& rows, const Kept& keep, const Scratch& own) {
  const auto& att = block_->att;
  const auto hand = shared(rows);
  const auto& z = own.z;
  const auto dout = tools_.operand(of(rows.dx, rows));
  if (last_) of(hand.grad_v_first, rows).zero_();

  tools_.add_weight_gradient(att.output, dout, of(keep.out, rows));
  tools_.linear_transposed(z[0], dout, att.output);
  heads_adjoint(rows, keep, own);

  att_.forward(rows, rows.x, {z[0], z[1], z[2], z[3], z[4], z[5]});
  const auto through = [&](const at::Tensor& in, const at::Tensor& grad_out,
                           const at::Tensor& weight) {
    tools_.add_weight_gradient(weight, grad_out, in);
    tools_.linear_transposed(in, grad_out, weight);
  };
  through(z[0], of(keep.r, rows), att.receptance);
  through(z[2], of(keep.k, rows), att.key);
  const auto none = [](const at::Tensor&, const at::Tensor&) {};
  const auto pair = [&](const at::Tensor& mixed, const at::Tensor& of_second, const at::Tensor& in,
                        const Rwkv7BlockImpl::Pair& low, const auto& adjoint) {
    const auto middle = second_adjoint(own, of(of_second, rows), of(in, rows), low, adjoint);
    tools_.add_weight_gradient(low.first, mixed, middle);
    tools_.linear(mixed, middle, low.first);
  };
  pair(z[1], keep.w, keep.w_in, att.w,
       [&](const at::Tensor& h, const at::Tensor& dh) { act_.tanh_adjoint(h, dh); });
  pair(z[4], keep.a, keep.a_in, att.a, none);
  pair(z[5], keep.g, keep.g_in, att.g,
       [&](const at::Tensor& h, const at::Tensor& dh) { act_.sigmoid_adjoint(h, dh); });
  if (first_) {
    through(z[3], of(keep.v, rows), att.value);
  } else {
    const auto middle = second_adjoint(own, of(keep.share, rows), of(keep.v_in, rows), att.v, none);
    tools_.add_weight_gradient(att.v.first, z[3], middle);
    through(z[3], of(keep.v, rows), att.value);
    tools_.add_linear(z[3], middle, att.v.first);
  }
  att_.backward(rows, rows.x, {z[0], z[1], z[2], z[3], z[4], z[5]}, rows.dx);
}

}  // namespace

std::unique_ptr<BlockPass> make_pass(const PassSetup& setup) {
  return std::make_unique<Pass>(setup);
}

std::string pass_lacks(const ModelConfig& config, const PassPlace& place) {
  const auto size = Sizes(config).N;
  if (place.kernels && !cuda::wkv7_takes(size))
    return "kernels for heads of " + std::to_string(size) + " channels";
  return ShiftPass::lacks(config);
}

PassFloats pass_floats(const ModelConfig& config, const PassLimits& limits) {
  const PassSizes size(config, limits);
  PassMemory kept(limits.place), scratch(limits.place), shared(limits.place);
  take_kept(size, kept);
  take_scratch(size, limits.group_tokens, scratch);
  take_shared(size, shared);
  return {kept.floats(), scratch.floats(), shared.floats()};
}

}  // namespace rwkvx::rwkv7
