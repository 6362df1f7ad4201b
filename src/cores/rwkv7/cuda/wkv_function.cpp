#include "cores/rwkv7/cuda/wkv_function.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include "cores/rwkv7/cuda/wkv_emulate.h"
#include "cores/rwkv7/modules/wkv.h"
#include "rwkvx/ops/cuda/call.h"

namespace rwkvx::cuda {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class Wkv7 : public torch::autograd::Function<Wkv7> {
 public:
  static variable_list forward(AutogradContext* context, at::Tensor r, at::Tensor d, at::Tensor k,
                               at::Tensor v, at::Tensor z, at::Tensor b, at::Tensor state,
                               bool keep) {
    const int64_t B = k.size(0), T = k.size(1), H = k.size(2), N = k.size(3);
    auto y = at::empty_like(k), state_out = at::empty_like(state);
    at::Tensor kept, sa;
    if (keep) {
      kept = at::empty({B, H, wkv7_kept_states(T), N, N}, state.options());
      sa = at::empty({B, T, H, N}, state.options());
    }
    with_type(k.scalar_type(), [&]<class Value>() {
      run(Wkv7ForwardCall<Value>{B, T, H, N, data<Value>(r), data<float>(d), data<Value>(k),
                                 data<Value>(v), data<Value>(z), data<Value>(b), data<float>(state),
                                 mutable_data<float>(state_out), mutable_data<Value>(y),
                                 mutable_data<float>(kept), mutable_data<float>(sa)},
          k);
    });
    context->set_materialize_grads(false);
    context->saved_data["state_wanted"] = state.requires_grad();
    context->save_for_backward({r, d, k, v, z, b, kept, sa, state_out});
    return {y, state_out};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const auto &r = saved[0], &d = saved[1], &k = saved[2], &v = saved[3], &z = saved[4],
               &b = saved[5], &kept = saved[6], &sa = saved[7], &state_out = saved[8];
    const int64_t B = k.size(0), T = k.size(1), H = k.size(2), N = k.size(3);
    const auto grad_y = gradient(grads[0], k);
    const auto grad_state_out = grads[1].defined() ? grads[1].contiguous() : at::Tensor();
    auto grad_r = at::empty_like(k), grad_d = at::empty_like(d), grad_k = at::empty_like(k),
         grad_v = at::empty_like(k), grad_z = at::empty_like(k), grad_b = at::empty_like(k);
    at::Tensor grad_state;
    if (context->saved_data["state_wanted"].toBool()) grad_state = at::empty_like(state_out);
    with_type(k.scalar_type(), [&]<class Value>() {
      run(Wkv7BackwardCall<Value>{B,
                                  T,
                                  H,
                                  N,
                                  data<Value>(r),
                                  data<float>(d),
                                  data<Value>(k),
                                  data<Value>(v),
                                  data<Value>(z),
                                  data<Value>(b),
                                  data<float>(kept),
                                  data<float>(sa),
                                  data<float>(state_out),
                                  data<Value>(grad_y),
                                  data<float>(grad_state_out),
                                  mutable_data<Value>(grad_r),
                                  mutable_data<float>(grad_d),
                                  mutable_data<Value>(grad_k),
                                  mutable_data<Value>(grad_v),
                                  mutable_data<Value>(grad_z),
                                  mutable_data<Value>(grad_b),
                                  mutable_data<float>(grad_state)},
          k);
    });
    return {grad_r, grad_d, grad_k, grad_v, grad_z, grad_b, grad_state, at::Tensor()};
  }
};

}  // namespace

std::pair<at::Tensor, at::Tensor> wkv7(const at::Tensor& r, const at::Tensor& d,
                                       const at::Tensor& k, const at::Tensor& v,
                                       const at::Tensor& z, const at::Tensor& b,
                                       const at::Tensor& state) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  TORCH_CHECK(state.scalar_type() == at::kFloat, "wkv7: the state must be float32, got ",
              state.scalar_type());
  const auto type = k.scalar_type();
  const auto decay = d.to(at::kFloat);
  if (!wkv7_takes(k.size(3))) {
    const auto wide = [](const at::Tensor& x) { return x.to(at::kFloat); };
    auto [y, state_out] = wkv7_reference(wide(r), decay, wide(k), wide(v), wide(z), wide(b), state);
    return {y.to(type), state_out};
  }
  const bool keep = torch::autograd::compute_requires_grad(r, d, k, v, z, b, state);
  const auto result = Wkv7::apply(r.to(type).contiguous(), decay.contiguous(), k.contiguous(),
                                  v.to(type).contiguous(), z.to(type).contiguous(),
                                  b.to(type).contiguous(), state.contiguous(), keep);
  return {result[0], result[1]};
}

}  // namespace rwkvx::cuda
