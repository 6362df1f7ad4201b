#include "cores/rwkv4/modules/wkv.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include "cores/rwkv4/wkv_kernel.h"
#include "rwkvx/modules/device.h"

namespace rwkvx {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Channels of one task: a few cache lines of every row, whole vectors on every processor.
constexpr int64_t kTaskChannels = 64;

template <class Real>
const Real* data(const at::Tensor& tensor) {
  return tensor.defined() && tensor.numel() > 0 ? tensor.const_data_ptr<Real>() : nullptr;
}
template <class Real>
Real* mutable_data(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.mutable_data_ptr<Real>() : nullptr;
}

template <class Pointer>
Pointer row(Pointer start, int64_t offset) {
  return start == nullptr ? nullptr : start + offset;
}

// Calls run(b, first channel, last channel) for all of B x C, in parallel.
template <class Run>
void for_each_task(int64_t B, int64_t C, const Run& run) {
  const int64_t blocks = (C + kTaskChannels - 1) / kTaskChannels;
  at::parallel_for(0, B * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task % blocks * kTaskChannels;
      run(task / blocks, first, std::min(first + kTaskChannels, C));
    }
  });
}

template <class Real>
void run_forward(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                 const at::Tensor& r, const at::Tensor& state, const at::Tensor& y,
                 const at::Tensor& state_out, const at::Tensor& kept) {
  const int64_t B = k.size(0), T = k.size(1), C = k.size(2), S = wkv_segments(T);
  for_each_task(B, C, [&](int64_t b, int64_t first, int64_t last) {
    wkv_forward(WkvForward<Real>{
        T, C, C, first, last, data<Real>(w), data<Real>(u), data<Real>(k) + b * T * C,
        data<Real>(v) + b * T * C, row(data<Real>(r), b * T * C), mutable_data<Real>(y) + b * T * C,
        data<Real>(state) + b * 3 * C, mutable_data<Real>(state_out) + b * 3 * C,
        row(mutable_data<Real>(kept), b * S * 3 * C)});
  });
}

template <class Real>
void run_backward(const variable_list& saved, const at::Tensor& grad_y,
                  const at::Tensor& grad_state_out, const at::Tensor& grad_k,
                  const at::Tensor& grad_v, const at::Tensor& grad_r, const at::Tensor& grad_w,
                  const at::Tensor& grad_u, const at::Tensor& grad_state_in) {
  const auto &w = saved[0], &u = saved[1], &k = saved[2], &v = saved[3], &r = saved[4],
             &state_in = saved[5], &state_out = saved[6], &kept = saved[7];
  const int64_t B = k.size(0), T = k.size(1), C = k.size(2), S = wkv_segments(T);
  for_each_task(B, C, [&](int64_t b, int64_t first, int64_t last) {
    wkv_backward(WkvBackward<Real>{T,
                                   C,
                                   C,
                                   first,
                                   last,
                                   data<Real>(w),
                                   data<Real>(u),
                                   data<Real>(k) + b * T * C,
                                   data<Real>(v) + b * T * C,
                                   row(data<Real>(r), b * T * C),
                                   data<Real>(kept) + b * S * 3 * C,
                                   data<Real>(state_out) + b * 3 * C,
                                   data<Real>(grad_y) + b * T * C,
                                   row(data<Real>(grad_state_out), b * 3 * C),
                                   mutable_data<Real>(grad_k) + b * T * C,
                                   mutable_data<Real>(grad_v) + b * T * C,
                                   row(mutable_data<Real>(grad_r), b * T * C),
                                   mutable_data<double>(grad_w) + b * C,
                                   mutable_data<double>(grad_u) + b * C,
                                   row(mutable_data<Real>(grad_state_in), b * 3 * C),
                                   data<Real>(state_in) + b * 3 * C});
  });
}

// An r without elements stands for "no receptance": autograd takes no undefined tensors.
class Wkv : public torch::autograd::Function<Wkv> {
 public:
  static variable_list forward(AutogradContext* context, at::Tensor w, at::Tensor u, at::Tensor k,
                               at::Tensor v, at::Tensor state, at::Tensor r, bool keep) {
    const int64_t B = k.size(0), T = k.size(1), C = k.size(2);
    auto y = at::empty_like(k), state_out = at::empty_like(state);
    at::Tensor kept;
    if (keep) kept = at::empty({B, wkv_segments(T), 3, C}, k.options());
    if (k.scalar_type() == at::kDouble)
      run_forward<double>(w, u, k, v, r, state, y, state_out, kept);
    else
      run_forward<float>(w, u, k, v, r, state, y, state_out, kept);
    context->set_materialize_grads(false);
    context->saved_data["state_wanted"] = state.requires_grad();
    context->save_for_backward({w, u, k, v, r, state, state_out, kept});
    return {y, state_out};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const auto& k = saved[2];
    const int64_t B = k.size(0), C = k.size(2);
    const auto grad_y = grads[0].defined() ? grads[0].contiguous() : at::zeros_like(k);
    const auto grad_state_out = grads[1].defined() ? grads[1].contiguous() : at::Tensor();
    auto grad_k = at::empty_like(k), grad_v = at::empty_like(k);
    const auto doubles = k.options().dtype(at::kDouble);
    auto grad_w = at::empty({B, C}, doubles), grad_u = at::empty({B, C}, doubles);
    at::Tensor grad_r, grad_state_in;
    if (saved[4].numel() > 0) grad_r = at::empty_like(k);
    if (context->saved_data["state_wanted"].toBool()) grad_state_in = at::empty_like(saved[5]);
    if (k.scalar_type() == at::kDouble)
      run_backward<double>(saved, grad_y, grad_state_out, grad_k, grad_v, grad_r, grad_w, grad_u,
                           grad_state_in);
    else
      run_backward<float>(saved, grad_y, grad_state_out, grad_k, grad_v, grad_r, grad_w, grad_u,
                          grad_state_in);
    return {grad_w.sum(0).to(k.dtype()),
            grad_u.sum(0).to(k.dtype()),
            grad_k,
            grad_v,
            grad_state_in,
            grad_r,
            at::Tensor()};
  }
};

}  // namespace

std::pair<at::Tensor, at::Tensor> wkv(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k,
                                      const at::Tensor& v, const at::Tensor& state,
                                      const at::Tensor& r) {
  TORCH_CHECK(k.dim() == 3 && v.sizes() == k.sizes() && (!r.defined() || r.sizes() == k.sizes()),
              "wkv: k, v and r must be (B, T, C), got ", k.sizes(), ", ", v.sizes());
  const int64_t B = k.size(0), T = k.size(1), C = k.size(2);
  TORCH_CHECK(w.numel() == C && u.numel() == C, "wkv: w and u must be (C) = (", C, "), got ",
              w.sizes(), " and ", u.sizes());
  TORCH_CHECK(state.sizes() == at::IntArrayRef({B, 3, C}), "wkv: state must be (B, 3, C), got ",
              state.sizes());
  if (T == 0) return {k, state};
  if (const auto* device = kernels_for(k)) return device->wkv(w, u, k, v, state, r);
  const bool real = k.scalar_type() == at::kFloat || k.scalar_type() == at::kDouble;
  const bool same = v.scalar_type() == k.scalar_type() && state.scalar_type() == k.scalar_type() &&
                    w.scalar_type() == k.scalar_type() && u.scalar_type() == k.scalar_type();
  // A growing state, which no model has, is the reference's.
  if (!k.device().is_cpu() || !real || !same || w.max().item<double>() > 0)
    return wkv_reference(w, u, k, v, state, r);
  const bool keep = torch::autograd::compute_requires_grad(w, u, k, v, state, r);
  auto result =
      Wkv::apply(w.contiguous(), u.contiguous(), k.contiguous(), v.contiguous(), state.contiguous(),
                 r.defined() ? r.contiguous() : k.new_empty({0}), keep);
  return {result[0], result[1]};
}

}  // namespace rwkvx
