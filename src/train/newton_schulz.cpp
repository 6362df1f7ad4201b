#include "train/newton_schulz.h"

#include <torch/types.h>

namespace rwkvx {

at::Tensor orthogonalized(const at::Tensor& matrix) {
  TORCH_CHECK(matrix.dim() == 2, "orthogonalized: expected (M, N), got ", matrix.sizes());
  constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
  constexpr int kSteps = 5;
  const bool tall = matrix.size(0) > matrix.size(1);  // the product of the shorter side is cheaper
  auto x = tall ? matrix.t().contiguous() : matrix;   // (M, N), M <= N
  const auto norm = x.norm();
  x = x / (norm + 1e-7) + norm * 0;  // an infinite norm must not become zeros
  for (int step = 0; step < kSteps; ++step) {
    const auto a = at::mm(x, x.t());                               // (M, M)
    const auto b = at::addmm(a, a, a, /*beta=*/kB, /*alpha=*/kC);  // (M, M)
    x = at::addmm(x, b, x, /*beta=*/kA);                           // (M, N)
  }
  return tall ? x.t() : x;
}

}  // namespace rwkvx
