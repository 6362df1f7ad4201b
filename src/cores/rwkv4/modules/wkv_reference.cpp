#include <ATen/ATen.h>

#include <vector>

#include "cores/rwkv4/modules/wkv.h"

namespace rwkvx {

at::Tensor wkv_start(int64_t B, int64_t C, const at::TensorOptions& options) {
  auto state = at::zeros({B, 3, C}, options);
  state.select(/*dim=*/1, 2).fill_(-1e30);
  return state;
}

std::pair<at::Tensor, at::Tensor> wkv_reference(const at::Tensor& w, const at::Tensor& u,
                                                const at::Tensor& k, const at::Tensor& v,
                                                const at::Tensor& state, const at::Tensor& r) {
  auto p = state.select(1, 0), q = state.select(1, 1), o = state.select(1, 2);  // (B, C)
  std::vector<at::Tensor> out;                                                  // T of (B, C)
  for (int64_t t = 0; t < k.size(1); ++t) {
    const auto k_t = k.select(1, t), v_t = v.select(1, t);  // (B, C)
    // Output: the past, plus the current token with its bonus u.
    auto m = at::maximum(o, u + k_t);
    auto past = at::exp(o - m), now = at::exp(u + k_t - m);
    out.push_back((past * p + now * v_t) / (past * q + now));
    // State: decay the past by w, then add the current token without bonus.
    m = at::maximum(o + w, k_t);
    past = at::exp(o + w - m), now = at::exp(k_t - m);
    p = past * p + now * v_t;
    q = past * q + now;
    o = m;
  }
  auto y = at::stack(out, /*dim=*/1);  // (B, T, C)
  if (r.defined()) y = at::sigmoid(r) * y;
  return {y, at::stack({p, q, o}, /*dim=*/1)};
}

}  // namespace rwkvx
