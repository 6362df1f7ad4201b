// The nearest orthogonal matrix, roughly.
#pragma once

#include <ATen/core/Tensor.h>

namespace rwkvx {

// matrix (M, N) -> (M, N): with the singular values moved to between about 0.7 and 1.2, by five
// steps of the quintic Newton-Schulz iteration a X + b (X X^T) X + c (X X^T)^2 X with the
// coefficients 3.4445, -4.7750, 2.0315. K. Jordan et al., Muon (kellerjordan.github.io/posts/muon,
// 2024). Theirs runs in bfloat16, ours in the matrix's type. Zeros stay zeros; values that are not
// finite, or whose squares are not, give NaN.
at::Tensor orthogonalized(const at::Tensor& matrix);

}  // namespace rwkvx
