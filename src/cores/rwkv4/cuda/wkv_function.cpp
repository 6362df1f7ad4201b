#include "cores/rwkv4/cuda/wkv_function.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include "cores/rwkv4/cuda/wkv.h"
#include "cores/rwkv4/cuda/wkv_emulate.h"
#include "rwkvx/ops/cuda/call.h"

namespace rwkvx::cuda {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class Wkv : public torch::autograd::Function<Wkv> {
 public:
  static variable_list forward(AutogradContext* context, at::Tensor w, at::Tensor u, at::Tensor k,
                               at::Tensor v, at::Tensor state, at::Tensor r, bool keep) {
    const int64_t B = k.size(0), T = k.size(1), C = k.size(2);
    auto y = at::empty_like(k), state_out = at::empty_like(state);
    at::Tensor kept;
    if (keep) kept = at::empty({B, wkv_kept_states(T), 3, C}, state.options());
    const int64_t segment = wkv_segment(B, T, C);
    const auto workspace = at::empty({wkv_workspace(B, T, C, segment)}, state.options());
    with_type(k.scalar_type(), [&]<class Value>() {
      run(WkvForwardCall<Value>{B, T, C, data<float>(w), data<float>(u), data<Value>(k),
                                data<Value>(v), data<Value>(r), mutable_data<Value>(y),
                                data<float>(state), mutable_data<float>(state_out),
                                mutable_data<float>(kept), segment, mutable_data<float>(workspace)},
          k);
    });
    context->set_materialize_grads(false);
    context->saved_data["state_wanted"] = state.requires_grad();
    context->save_for_backward({w, u, k, v, r, state, state_out, kept});
    return {y, state_out};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const auto &w = saved[0], &u = saved[1], &k = saved[2], &v = saved[3], &r = saved[4],
               &state = saved[5], &state_out = saved[6], &kept = saved[7];
    const int64_t B = k.size(0), T = k.size(1), C = k.size(2);
    const auto grad_y = gradient(grads[0], k);
    const auto grad_state_out = grads[1].defined() ? grads[1].contiguous() : at::Tensor();
    auto grad_k = at::empty_like(k), grad_v = at::empty_like(k);
    auto grad_w = at::empty({B, C}, state.options()), grad_u = at::empty({B, C}, state.options());
    at::Tensor grad_r, grad_state;
    if (r.numel() > 0) grad_r = at::empty_like(k);
    if (context->saved_data["state_wanted"].toBool()) grad_state = at::empty_like(state);
    const int64_t segment = wkv_segment(B, T, C);
    const auto workspace = at::empty({wkv_workspace(B, T, C, segment)}, state.options());
    with_type(k.scalar_type(), [&]<class Value>() {
      run(WkvBackwardCall<Value>{B,
                                 T,
                                 C,
                                 data<float>(w),
                                 data<float>(u),
                                 data<Value>(k),
                                 data<Value>(v),
                                 data<Value>(r),
                                 data<float>(kept),
                                 data<float>(state),
                                 data<float>(state_out),
                                 data<Value>(grad_y),
                                 data<float>(grad_state_out),
                                 mutable_data<Value>(grad_k),
                                 mutable_data<Value>(grad_v),
                                 mutable_data<Value>(grad_r),
                                 mutable_data<float>(grad_w),
                                 mutable_data<float>(grad_u),
                                 mutable_data<float>(grad_state),
                                 segment,
                                 mutable_data<float>(workspace)},
          k);
    });
    return {grad_w.sum(0), grad_u.sum(0), grad_k, grad_v, grad_state, grad_r, at::Tensor()};
  }
};

}  // namespace

std::pair<at::Tensor, at::Tensor> wkv(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k,
                                      const at::Tensor& v, const at::Tensor& state,
                                      const at::Tensor& r) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  TORCH_CHECK(state.scalar_type() == at::kFloat, "wkv: the state must be float32, got ",
              state.scalar_type());
  const auto type = k.scalar_type();
  const bool keep = torch::autograd::compute_requires_grad(w, u, k, v, state, r);
  const auto result = Wkv::apply(w.to(at::kFloat).contiguous(), u.to(at::kFloat).contiguous(),
                                 k.contiguous(), v.to(type).contiguous(), state.contiguous(),
                                 r.defined() ? r.to(type).contiguous() : k.new_empty({0}), keep);
  return {result[0], result[1]};
}

}  // namespace rwkvx::cuda
