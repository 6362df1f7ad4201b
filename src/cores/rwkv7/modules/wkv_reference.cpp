#include <ATen/ATen.h>

#include <vector>

#include "cores/rwkv7/modules/wkv.h"

namespace rwkvx {

std::pair<at::Tensor, at::Tensor> wkv7_reference(const at::Tensor& r, const at::Tensor& d,
                                                 const at::Tensor& k, const at::Tensor& v,
                                                 const at::Tensor& z, const at::Tensor& b,
                                                 const at::Tensor& state) {
  auto S = state;               // (B, H, N, N)
  std::vector<at::Tensor> out;  // T of (B, H, N)
  const auto row = [](const at::Tensor& x, int64_t t) { return x.select(1, t).unsqueeze(-2); };
  const auto column = [](const at::Tensor& x, int64_t t) { return x.select(1, t).unsqueeze(-1); };
  for (int64_t t = 0; t < r.size(1); ++t) {
    const auto removed = at::matmul(S, column(z, t));  // (B, H, N, 1)
    S = S * row(d, t) + removed * row(b, t) + column(v, t) * row(k, t);
    out.push_back(at::matmul(S, column(r, t)).squeeze(-1));
  }
  return {at::stack(out, /*dim=*/1), S};
}

}  // namespace rwkvx
