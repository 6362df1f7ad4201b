#include "cores/rwkv4/pass.h"

#include <ATen/ATen.h>

#include "cores/rwkv4/block.h"
#include "cores/rwkv4/wkv.h"
#include "cores/rwkv4/wkv_kernel.h"
#include "cores/shift/pass.h"
#include "rwkvx/kernels/activation.h"

namespace rwkvx::rwkv4 {
namespace {

constexpr int64_t kWkvChannels = 64;  // of one task

const float* read(const at::Tensor& t) { return PassTools::read(t); }
float* data(const at::Tensor& t) { return PassTools::data(t); }

// WKV states that the forward pass keeps of all sequences, however the tokens are cut into
// sequences: batches of short ones keep a state each.
int64_t kept_states(int64_t tokens, int64_t longest) {
  const int64_t shortest = std::min<int64_t>(longest, kWkvSegment);
  return wkv_segments(tokens) + tokens / std::max<int64_t>(shortest, 1) + 1;
}

class Pass : public BlockPass {
 public:
  explicit Pass(const PassSetup& setup)
      : tools_(setup.tools),
        block_(std::dynamic_pointer_cast<Rwkv4BlockImpl>(setup.block)),
        N_(setup.tokens),
        states_(kept_states(setup.tokens, setup.longest)),
        C_(setup.config.n_embd),
        A_(setup.config.att_channels()),
        F_(setup.config.ffn_channels()),
        wkv_op_(tools_.operator_at("wkv")),
        activation_op_(tools_.operator_at("activation")),
        wkv_zero_(wkv_start(1, A_, at::kFloat)),
        att_(setup.config, tools_, block_->ln1, block_->att.shift,
             {block_->att.time_mix_k, block_->att.time_mix_v, block_->att.time_mix_r}),
        ffn_(setup.config, tools_, block_->ln2, block_->ffn.shift,
             {block_->ffn.time_mix_k, block_->ffn.time_mix_r}) {}

  void begin() override {
    TORCH_CHECK(tools_.B * wkv_segments(tools_.T) <= states_, "TrainingPass: ", tools_.B,
                " sequences keep more states than there is room for");
    att_.begin();
    ffn_.begin();
  }
  void forward(const PassRows& rows) override;
  void backward(const PassRows& rows) override;

 private:
  // What the backward pass needs, of all N tokens.
  struct Kept {
    at::Tensor k, v, r, y;    // (N, A)
    at::Tensor wkv;           // (sequences, segments, 3, A), flat
    at::Tensor x_mid;         // (N, C)
    at::Tensor h;             // (N, F)
    at::Tensor ffn_r, ffn_v;  // (N, C)
  };
  Kept kept(const PassRows& rows) const {
    PassMemory memory(rows.kept);
    return {memory.take({N_, A_}), memory.take({N_, A_}),          memory.take({N_, A_}),
            memory.take({N_, A_}), memory.take({states_, 3 * A_}), memory.take({N_, C_}),
            memory.take({N_, F_}), memory.take({N_, C_}),          memory.take({N_, C_})};
  }
  struct Scratch {
    at::Tensor z[5], dy, wide;  // (R, C) each, (R, A), (R, F)
  };
  Scratch scratch(const PassRows& rows) const {
    const int64_t R = rows.count * tools_.T;
    PassMemory memory(rows.scratch);
    Scratch own;
    for (auto& one : own.z) {
      auto widest = memory.take({R * std::max(A_, C_)});
      one = widest.narrow(0, 0, R * C_).view({R, C_});
      if (&one == &own.z[3]) own.dy = widest.narrow(0, 0, R * A_).view({R, A_});  // in z[3]'s place
    }
    own.wide = memory.take({R, F_});
    return own;
  }
  // The rows of a group among those of all.
  at::Tensor of(const at::Tensor& all, const PassRows& rows) const {
    return all.narrow(0, rows.first * tools_.T, rows.count * tools_.T);
  }
  float* wkv_of(const Kept& keep, int64_t b) const {
    return data(keep.wkv) + b * wkv_segments(tools_.T) * 3 * A_;
  }
  template <class Run>
  void for_channels(int64_t count, const Run& run) const {
    const PassTools::Timed timed(tools_, wkv_op_);
    const int64_t blocks = (A_ + kWkvChannels - 1) / kWkvChannels;
    PassTools::in_parallel(count * blocks, 1, [&](int64_t task, int64_t) {
      const int64_t first = task % blocks * kWkvChannels;
      run(task / blocks, first, std::min(A_, first + kWkvChannels));
    });
  }
  template <class Run>
  void elementwise(int64_t count, const Run& run) const {
    const PassTools::Timed timed(tools_, activation_op_);
    PassTools::in_parallel(count, PassTools::kElements, run);
  }

  PassTools& tools_;
  std::shared_ptr<Rwkv4BlockImpl> block_;
  int64_t N_, states_, C_, A_, F_;
  std::size_t wkv_op_, activation_op_;
  at::Tensor wkv_zero_;
  ShiftPass att_, ffn_;
};

void Pass::forward(const PassRows& rows) {
  const auto& att = block_->att;
  const auto& ffn = block_->ffn;
  const auto keep = kept(rows);
  const auto own = scratch(rows);
  const int64_t T = tools_.T, R = rows.count * T, b0 = rows.first;

  att_.forward(rows.x, b0, rows.count, {own.z[0], own.z[1], own.z[2]});
  tools_.linear(of(keep.k, rows), own.z[0], att.key);
  tools_.linear(of(keep.v, rows), own.z[1], att.value);
  tools_.linear(of(keep.r, rows), own.z[2], att.receptance);
  const auto w = -at::exp(att.time_decay), u = att.time_first.contiguous();
  for_channels(rows.count, [&](int64_t b, int64_t first, int64_t last) {
    const int64_t at = (b0 + b) * T * A_;
    wkv_forward(WkvForward<float>{T, A_, A_, first, last, read(w), read(u), read(keep.k) + at,
                                  read(keep.v) + at, read(keep.r) + at, data(keep.y) + at,
                                  read(wkv_zero_), nullptr, wkv_of(keep, b0 + b)});
  });
  tools_.linear(own.z[0], of(keep.y, rows), att.output);
  float* x_mid = data(keep.x_mid) + b0 * T * C_;
  const float* x_rows = read(rows.x) + b0 * T * C_;
  elementwise(R * C_, [&](int64_t first, int64_t last) {
    residual_forward(x_rows + first, read(own.z[0]) + first, x_mid + first, last - first);
  });

  ffn_.forward(keep.x_mid, b0, rows.count, {own.z[0], own.z[1]});
  const auto h = of(keep.h, rows);
  tools_.linear(h, own.z[0], ffn.key);
  elementwise(R * F_, [&](int64_t first, int64_t last) {
    relu_square_forward(data(h) + first, last - first);
  });
  const auto r = of(keep.ffn_r, rows), v = of(keep.ffn_v, rows);
  tools_.linear(r, own.z[1], ffn.receptance);
  tools_.linear(v, h, ffn.value);
  if (!rows.x_out.defined()) return;
  float* x_out = data(rows.x_out) + b0 * T * C_;
  elementwise(R * C_, [&](int64_t first, int64_t last) {
    gated_residual_forward(x_mid + first, read(r) + first, read(v) + first, x_out + first,
                           last - first);
  });
}

void Pass::backward(const PassRows& rows) {
  const auto& att = block_->att;
  const auto& ffn = block_->ffn;
  const auto keep = kept(rows);
  const auto own = scratch(rows);
  const auto& z = own.z;
  const int64_t T = tools_.T, R = rows.count * T, b0 = rows.first;
  const auto grad = of(rows.dx, rows);  // (R, C)

  // Channel mix.
  const auto h = of(keep.h, rows), r = of(keep.ffn_r, rows), v = of(keep.ffn_v, rows);
  const auto &dr = z[3], &dv = z[4], &dh = own.wide;
  elementwise(R * C_, [&](int64_t first, int64_t last) {
    gated_residual_backward(read(grad) + first, read(r) + first, read(v) + first, data(dr) + first,
                            data(dv) + first, last - first);
  });
  tools_.linear_transposed(dh, dv, ffn.value);
  tools_.add_weight_gradient(ffn.value, dv, h);
  elementwise(R * F_, [&](int64_t first, int64_t last) {
    relu_square_backward(read(h) + first, data(dh) + first, last - first);
  });
  ffn_.forward(keep.x_mid, b0, rows.count, {z[0], z[1]});
  tools_.add_weight_gradient(ffn.key, dh, z[0]);
  tools_.add_weight_gradient(ffn.receptance, dr, z[1]);
  tools_.linear_transposed(z[0], dh, ffn.key);
  tools_.linear_transposed(z[1], dr, ffn.receptance);
  ffn_.backward(keep.x_mid, b0, rows.count, {z[0], z[1]}, rows.dx);

  // Time mix. The kept k, v and r become their own gradients.
  const auto y = of(keep.y, rows);
  tools_.add_weight_gradient(att.output, grad, y);
  const auto& dy = own.dy;
  tools_.linear_transposed(dy, grad, att.output);
  const auto w = -at::exp(att.time_decay), u = att.time_first.contiguous();
  auto grad_w = at::empty({rows.count, A_}, at::kDouble),
       grad_u = at::empty({rows.count, A_}, at::kDouble);
  for_channels(rows.count, [&](int64_t i, int64_t first, int64_t last) {
    const int64_t at = (b0 + i) * T * A_;
    wkv_backward(WkvBackward<float>{T,
                                    A_,
                                    A_,
                                    first,
                                    last,
                                    read(w),
                                    read(u),
                                    read(keep.k) + at,
                                    read(keep.v) + at,
                                    read(keep.r) + at,
                                    wkv_of(keep, b0 + i),
                                    nullptr,
                                    read(dy) + i * T * A_,
                                    nullptr,
                                    data(keep.k) + at,
                                    data(keep.v) + at,
                                    data(keep.r) + at,
                                    grad_w.mutable_data_ptr<double>() + i * A_,
                                    grad_u.mutable_data_ptr<double>() + i * A_,
                                    nullptr,
                                    nullptr});
  });
  // w = -exp(time_decay), so dw / dtime_decay = w. Of a decay that overflowed nothing is left, and
  // its gradient is 0.
  att.time_decay.grad().add_(grad_w.sum(0) * w.clamp_min(-1e30));
  att.time_first.grad().add_(grad_u.sum(0));
  att_.forward(rows.x, b0, rows.count, {z[0], z[1], z[2]});
  const auto dk = of(keep.k, rows), dvalue = of(keep.v, rows), dreceptance = of(keep.r, rows);
  tools_.add_weight_gradient(att.key, dk, z[0]);
  tools_.add_weight_gradient(att.value, dvalue, z[1]);
  tools_.add_weight_gradient(att.receptance, dreceptance, z[2]);
  tools_.linear_transposed(z[0], dk, att.key);
  tools_.linear_transposed(z[1], dvalue, att.value);
  tools_.linear_transposed(z[2], dreceptance, att.receptance);
  att_.backward(rows.x, b0, rows.count, {z[0], z[1], z[2]}, rows.dx);
}

}  // namespace

std::unique_ptr<BlockPass> make_pass(const PassSetup& setup) {
  return std::make_unique<Pass>(setup);
}

std::string pass_lacks(const ModelConfig& config) { return ShiftPass::lacks(config); }

PassFloats pass_floats(const ModelConfig& config, std::int64_t tokens, std::int64_t longest,
                       std::int64_t group_tokens) {
  const std::int64_t C = config.n_embd, A = config.att_channels(), F = config.ffn_channels();
  PassFloats floats;
  for (const auto count :
       {tokens * A, tokens * A, tokens * A, tokens * A, kept_states(tokens, longest) * 3 * A,
        tokens * C, tokens * F, tokens * C, tokens * C})
    floats.kept += pass_aligned(count);
  floats.scratch = 5 * pass_aligned(group_tokens * std::max(A, C)) + pass_aligned(group_tokens * F);
  return floats;
}

}  // namespace rwkvx::rwkv4
