#include "cores/rwkv7/modules/pass.h"

#include <ATen/ATen.h>

#include "cores/rwkv7/head_kernel.h"
#include "cores/rwkv7/modules/block.h"
#include "cores/rwkv7/wkv_kernel.h"
#include "cores/shift/modules/pass.h"
#include "rwkvx/kernels/activation.h"

namespace rwkvx::rwkv7 {
namespace {

const float* read(const at::Tensor& t) { return PassTools::read(t); }
float* data(const at::Tensor& t) { return PassTools::data(t); }

// Of a block's rows: tokens of a batch and kept states, beside the model's own sizes.
struct PassSizes : Sizes {
  PassSizes(const ModelConfig& config, const PassLimits& limits)
      : Sizes(config), tokens(limits.tokens), states(kept_states(limits, kWkv7Segment)) {}
  int64_t tokens, states;
  int64_t widest_rank() const { return std::max({decay, iclr, value, gate}); }
};

// What the backward pass needs, of all tokens.
struct Kept {
  at::Tensor r, k, v, g, w, a, share;  // (tokens, C), what head_forward() takes
  at::Tensor w_in, a_in, v_in, g_in;   // (tokens, rank), what the pairs' second matrices take
  at::Tensor y, out;                   // (tokens, C), of head_forward()
  at::Tensor states;                   // (states, C N)
  at::Tensor x_mid;                    // (tokens, C)
  at::Tensor h;                        // (tokens, F)
};
Kept take_kept(const PassSizes& size, PassMemory& memory) {
  const auto wide = [&](int64_t width) { return memory.take({size.tokens, width}); };
  Kept kept;
  for (auto* one : {&kept.r, &kept.k, &kept.v, &kept.g, &kept.w, &kept.a, &kept.share, &kept.y,
                    &kept.out, &kept.x_mid})
    *one = wide(size.C);
  kept.w_in = wide(size.decay), kept.a_in = wide(size.iclr);
  kept.v_in = wide(size.value), kept.g_in = wide(size.gate);
  kept.states = memory.take({size.states, size.C * size.N});
  kept.h = wide(size.F);
  return kept;
}

// What R rows need while they go through the block.
struct Scratch {
  at::Tensor z[6];  // (R, C): r, w, k, v, a, g
  at::Tensor wide;  // (R, F)
  at::Tensor rank;  // (R widest rank)
};
Scratch take_scratch(const PassSizes& size, int64_t R, PassMemory& memory) {
  Scratch own;
  for (auto& one : own.z) one = memory.take({R, size.C});
  own.wide = memory.take({R, size.F});
  own.rank = memory.take({R * size.widest_rank()});
  return own;
}

// What blocks share: the first one's values, and their gradient.
struct Shared {
  at::Tensor v_first, grad_v_first;  // (tokens, C)
};
Shared take_shared(const PassSizes& size, PassMemory& memory) {
  return {memory.take({size.tokens, size.C}), memory.take({size.tokens, size.C})};
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
        activation_op_(tools_.operator_at("activation")),
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
    PassMemory memory(rows.kept);
    auto keep = take_kept(size_, memory);
    if (first_) keep.v = shared(rows).v_first;
    return keep;
  }
  Shared shared(const PassRows& rows) const {
    PassMemory memory(rows.shared);
    return take_shared(size_, memory);
  }
  Scratch scratch(const PassRows& rows) const {
    PassMemory memory(rows.scratch);
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
  template <class Run>
  void elementwise(int64_t count, const Run& run) const {
    const PassTools::Timed timed(tools_, activation_op_);
    PassTools::in_parallel(count, PassTools::kElements, run);
  }
  // Applies f(numbers, count) to all of a tensor.
  template <class F>
  void apply(const at::Tensor& to, const F& f) const {
    elementwise(to.numel(),
                [&](int64_t first, int64_t last) { f(data(to) + first, last - first); });
  }
  // From the gradient of a pair's result to that of what its second matrix takes.
  template <class Adjoint>
  at::Tensor second_adjoint(const Scratch& own, const at::Tensor& grad, const at::Tensor& in,
                            const Rwkv7BlockImpl::Pair& pair, const Adjoint& adjoint) const;
  void channel_mix_backward(const PassRows& rows, const Kept& keep, const Scratch& own);
  void time_mix_backward(const PassRows& rows, const Kept& keep, const Scratch& own);

  PassTools& tools_;
  bool first_, last_;
  std::shared_ptr<Rwkv7BlockImpl> block_;
  PassSizes size_;
  StatePlaces places_;
  int64_t layer_;
  std::vector<int64_t> kept_before_;
  std::size_t wkv_op_, activation_op_;
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

void Pass::forward(const PassRows& rows) {
  const auto& att = block_->att;
  const auto& ffn = block_->ffn;
  const auto keep = kept(rows);
  const auto hand = shared(rows);
  const auto own = scratch(rows);
  const int64_t R = rows.tokens, C = size_.C;
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
  through(keep.w_in, z[1], att.w, keep.w, [&](const auto& m) { apply(m, tanh_forward); });
  through(keep.a_in, z[4], att.a, keep.a, nothing);
  if (!first_) through(keep.v_in, z[3], att.v, keep.share, nothing);
  through(keep.g_in, z[5], att.g, keep.g, [&](const auto& m) { apply(m, sigmoid_forward); });
  for_heads(rows, [&](int64_t b, int64_t head) {
    HeadForward call{weights(), head_rows(keep, hand, b)};
    call.out = data(keep.out) + sequence(b).begin * C;
    call.y = data(keep.y) + sequence(b).begin * C;
    call.kept = kept_of(keep, b, head);
    call.state_in = state_of(rows.before, b, head);
    call.state_out = state_of(rows.after, b, head);
    head_forward(call, head);
  });
  tools_.linear(z[0], of(keep.out, rows), att.output);
  float* x_mid = data(keep.x_mid) + rows.begin * C;
  const float* x_rows = read(rows.x) + rows.begin * C;
  elementwise(R * C, [&](int64_t first, int64_t last) {
    residual_forward(x_rows + first, read(z[0]) + first, x_mid + first, last - first);
  });
  tools_.drop(x_mid, rows.begin * C, R * C, 2 * layer_ + 1);

  ffn_.forward(rows, keep.x_mid, {z[0]});
  const auto h = of(keep.h, rows);
  tools_.linear(h, z[0], ffn.key);
  apply(h, relu_square_forward);
  if (!rows.x_out.defined()) return;
  tools_.linear(z[0], h, ffn.value);
  float* x_out = data(rows.x_out) + rows.begin * C;
  elementwise(R * C, [&](int64_t first, int64_t last) {
    residual_forward(x_mid + first, read(z[0]) + first, x_out + first, last - first);
  });
  tools_.drop(x_out, rows.begin * C, R * C, 2 * layer_ + 2);
}

void Pass::backward(const PassRows& rows) {
  const auto keep = kept(rows);
  const auto own = scratch(rows);
  float* grad = data(rows.dx) + rows.begin * size_.C;
  tools_.drop(grad, rows.begin * size_.C, rows.tokens * size_.C, 2 * layer_ + 2);
  channel_mix_backward(rows, keep, own);
  tools_.drop(grad, rows.begin * size_.C, rows.tokens * size_.C, 2 * layer_ + 1);
  time_mix_backward(rows, keep, own);
}

void Pass::channel_mix_backward(const PassRows& rows, const Kept& keep, const Scratch& own) {
  const auto& ffn = block_->ffn;
  const auto& z = own.z[0];
  const auto grad = of(rows.dx, rows), h = of(keep.h, rows);
  const auto& dh = own.wide;
  tools_.linear_transposed(dh, grad, ffn.value);
  tools_.add_weight_gradient(ffn.value, grad, h);
  elementwise(h.numel(), [&](int64_t first, int64_t last) {
    relu_square_backward(read(h) + first, data(dh) + first, last - first);
  });
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
  elementwise(to.numel(), [&](int64_t first, int64_t last) {
    adjoint(read(in) + first, data(to) + first, last - first);
  });
  return to;
}

void Pass::time_mix_backward(const PassRows& rows, const Kept& keep, const Scratch& own) {
  const auto& att = block_->att;
  const auto hand = shared(rows);
  const int64_t b0 = rows.first, C = size_.C;
  const auto& z = own.z;
  const auto grad = of(rows.dx, rows);
  if (last_) of(hand.grad_v_first, rows).zero_();

  // The rows that head_forward() took become their own gradients.
  tools_.add_weight_gradient(att.output, grad, of(keep.out, rows));
  tools_.linear_transposed(z[0], grad, att.output);
  auto& parts = tools_.parts;
  parts.resize(static_cast<std::size_t>(rows.count * kHeadGradRows * C));
  for_heads(rows, [&](int64_t b, int64_t head) {
    const int64_t begin = sequence(b).begin;
    const auto at = [&](const at::Tensor& all) { return data(all) + begin * C; };
    HeadBackward call{weights(), head_rows(keep, hand, b)};
    call.y = at(keep.y);
    call.kept = kept_of(keep, b, head);
    call.grad_out = read(z[0]) + (begin - rows.begin) * C;
    call.grad_state_out = state_of(rows.grad_after, b, head);
    call.grad_state_in = state_of(rows.grad_before, b, head);
    call.grad_r = at(keep.r), call.grad_k = at(keep.k), call.grad_v = at(keep.v);
    call.grad_g = at(keep.g), call.grad_w = at(keep.w), call.grad_a = at(keep.a);
    if (!first_) call.grad_share = at(keep.share);
    call.grad_v_first = at(hand.grad_v_first);
    call.sums = parts.data() + (b - b0) * kHeadGradRows * C;
    head_backward(call, head);
  });
  std::vector<std::pair<int64_t, at::Tensor>> sums{
      {0, att.w0},  {1, att.a0},          {3, att.k_k},      {4, att.k_a},
      {5, att.r_k}, {6, att.ln_x.weight}, {7, att.ln_x.bias}};
  if (!first_) sums.emplace_back(2, att.v0);
  tools_.add_partial_sums(rows.count, kHeadGradRows, C, sums);

  att_.forward(rows, rows.x, {z[0], z[1], z[2], z[3], z[4], z[5]});
  const auto through = [&](const at::Tensor& in, const at::Tensor& grad_out,
                           const at::Tensor& weight) {
    tools_.add_weight_gradient(weight, grad_out, in);
    tools_.linear_transposed(in, grad_out, weight);
  };
  through(z[0], of(keep.r, rows), att.receptance);
  through(z[2], of(keep.k, rows), att.key);
  const auto none = [](const float*, float*, int64_t) {};
  const auto pair = [&](const at::Tensor& mixed, const at::Tensor& of_second, const at::Tensor& in,
                        const Rwkv7BlockImpl::Pair& low, const auto& adjoint) {
    const auto middle = second_adjoint(own, of(of_second, rows), of(in, rows), low, adjoint);
    tools_.add_weight_gradient(low.first, mixed, middle);
    tools_.linear(mixed, middle, low.first);
  };
  pair(z[1], keep.w, keep.w_in, att.w, tanh_backward);
  pair(z[4], keep.a, keep.a_in, att.a, none);
  pair(z[5], keep.g, keep.g_in, att.g, sigmoid_backward);
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

std::string pass_lacks(const ModelConfig& config) { return ShiftPass::lacks(config); }

PassFloats pass_floats(const ModelConfig& config, const PassLimits& limits) {
  const PassSizes size(config, limits);
  PassMemory kept, scratch, shared;
  take_kept(size, kept);
  take_scratch(size, limits.group_tokens, scratch);
  take_shared(size, shared);
  return {kept.floats(), scratch.floats(), shared.floats()};
}

}  // namespace rwkvx::rwkv7
