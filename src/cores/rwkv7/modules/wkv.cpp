#include "cores/rwkv7/modules/wkv.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <vector>

#include "cores/rwkv7/wkv_kernel.h"
#include "rwkvx/modules/device.h"

namespace rwkvx {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <class Real>
const Real* data(const at::Tensor& tensor, int64_t offset) {
  return tensor.defined() ? tensor.const_data_ptr<Real>() + offset : nullptr;
}
template <class Real>
Real* mutable_data(const at::Tensor& tensor, int64_t offset) {
  return tensor.defined() ? tensor.mutable_data_ptr<Real>() + offset : nullptr;
}

// Calls run(offset of a head's channels, of its state, of its kept states, worker's scratch) for
// every head of every sequence, in parallel.
template <class Real, class Run>
void for_each_head(const at::Tensor& like, int64_t scratch_size, const Run& run) {
  const int64_t B = like.size(0), T = like.size(1), H = like.size(2), N = like.size(3);
  at::parallel_for(0, B * H, 1, [&](int64_t begin, int64_t end) {
    std::vector<Real> scratch(static_cast<std::size_t>(scratch_size));
    for (int64_t head = begin; head < end; ++head)
      run(head / H * T * H * N + head % H * N, head * N * N, head * wkv7_segments(T) * N * N,
          scratch.data());
  });
}

template <class Real>
void run_forward(const variable_list& in, const at::Tensor& y, const at::Tensor& state_out,
                 const at::Tensor& kept) {
  const int64_t T = y.size(1), H = y.size(2), N = y.size(3);
  for_each_head<Real>(y, 0, [&](int64_t at, int64_t state, int64_t states, Real*) {
    wkv7_forward(Wkv7Forward<Real>{T, N, H * N, data<Real>(in[0], at), data<Real>(in[1], at),
                                   data<Real>(in[2], at), data<Real>(in[3], at),
                                   data<Real>(in[4], at), data<Real>(in[5], at),
                                   data<Real>(in[6], state), mutable_data<Real>(state_out, state),
                                   mutable_data<Real>(y, at), mutable_data<Real>(kept, states)});
  });
}

template <class Real>
void run_backward(const variable_list& in, const at::Tensor& kept, const at::Tensor& grad_y,
                  const at::Tensor& grad_state_out, const variable_list& grads) {
  const int64_t T = grad_y.size(1), H = grad_y.size(2), N = grad_y.size(3);
  for_each_head<Real>(grad_y, wkv7_backward_scratch(N),
                      [&](int64_t at, int64_t state, int64_t states, Real* scratch) {
                        wkv7_backward(Wkv7Backward<Real>{T,
                                                         N,
                                                         H * N,
                                                         data<Real>(in[0], at),
                                                         data<Real>(in[1], at),
                                                         data<Real>(in[2], at),
                                                         data<Real>(in[3], at),
                                                         data<Real>(in[4], at),
                                                         data<Real>(in[5], at),
                                                         data<Real>(kept, states),
                                                         data<Real>(grad_y, at),
                                                         data<Real>(grad_state_out, state),
                                                         mutable_data<Real>(grads[0], at),
                                                         mutable_data<Real>(grads[1], at),
                                                         mutable_data<Real>(grads[2], at),
                                                         mutable_data<Real>(grads[3], at),
                                                         mutable_data<Real>(grads[4], at),
                                                         mutable_data<Real>(grads[5], at),
                                                         mutable_data<Real>(grads[6], state),
                                                         scratch});
                      });
}

class Wkv7 : public torch::autograd::Function<Wkv7> {
 public:
  static variable_list forward(AutogradContext* context, at::Tensor r, at::Tensor d, at::Tensor k,
                               at::Tensor v, at::Tensor z, at::Tensor b, at::Tensor state,
                               bool keep) {
    const int64_t B = k.size(0), T = k.size(1), H = k.size(2), N = k.size(3);
    auto y = at::empty_like(k), state_out = at::empty_like(state);
    at::Tensor kept;
    if (keep) kept = at::empty({B, H, wkv7_segments(T), N, N}, k.options());
    const variable_list in{r, d, k, v, z, b, state};
    if (k.scalar_type() == at::kDouble)
      run_forward<double>(in, y, state_out, kept);
    else
      run_forward<float>(in, y, state_out, kept);
    context->set_materialize_grads(false);
    context->saved_data["state_wanted"] = state.requires_grad();
    context->save_for_backward({r, d, k, v, z, b, kept});
    return {y, state_out};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const auto &k = saved[2], &kept = saved[6];
    const auto grad_y = grads[0].defined() ? grads[0].contiguous() : at::zeros_like(k);
    const auto grad_state_out = grads[1].defined() ? grads[1].contiguous() : at::Tensor();
    variable_list out;
    for (int i = 0; i < 6; ++i) out.push_back(at::empty_like(k));
    out.emplace_back();
    if (context->saved_data["state_wanted"].toBool())
      out[6] = at::empty({k.size(0), k.size(2), k.size(3), k.size(3)}, k.options());
    if (k.scalar_type() == at::kDouble)
      run_backward<double>(saved, kept, grad_y, grad_state_out, out);
    else
      run_backward<float>(saved, kept, grad_y, grad_state_out, out);
    out.emplace_back();  // keep
    return out;
  }
};

}  // namespace

std::pair<at::Tensor, at::Tensor> wkv7(const at::Tensor& r, const at::Tensor& d,
                                       const at::Tensor& k, const at::Tensor& v,
                                       const at::Tensor& z, const at::Tensor& b,
                                       const at::Tensor& state) {
  TORCH_CHECK(k.dim() == 4, "wkv7: k must be (B, T, H, N), got ", k.sizes());
  const int64_t B = k.size(0), T = k.size(1), H = k.size(2), N = k.size(3);
  bool same = state.scalar_type() == k.scalar_type();
  for (const auto* one : {&r, &d, &v, &z, &b}) {
    TORCH_CHECK(one->sizes() == k.sizes(), "wkv7: r, d, k, v, z and b must have one shape, got ",
                one->sizes(), " beside ", k.sizes());
    same = same && one->scalar_type() == k.scalar_type();
  }
  TORCH_CHECK(state.sizes() == at::IntArrayRef({B, H, N, N}),
              "wkv7: state must be (B, H, N, N), got ", state.sizes(), " beside ", k.sizes());
  if (T == 0) return {v, state};
  if (const auto* device = kernels_for(k)) return device->wkv7(r, d, k, v, z, b, state);
  const bool real = k.scalar_type() == at::kFloat || k.scalar_type() == at::kDouble;
  const bool fits = N % 8 == 0 && N <= kWkv7LargestSize;
  if (!k.device().is_cpu() || !real || !same || !fits)
    return wkv7_reference(r, d, k, v, z, b, state);
  const bool keep = torch::autograd::compute_requires_grad(r, d, k, v, z, b, state);
  auto result = Wkv7::apply(r.contiguous(), d.contiguous(), k.contiguous(), v.contiguous(),
                            z.contiguous(), b.contiguous(), state.contiguous(), keep);
  return {result[0], result[1]};
}

}  // namespace rwkvx
