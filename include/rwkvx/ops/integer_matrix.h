// A matrix that stays int8 on a device, for inference.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <unordered_map>

#include "rwkvx/kernels/weight_matrix.h"

namespace rwkvx {

// W (M, N) = values scales column_scales, but for the wide weights; see kernels/weight_matrix.h.
class IntegerMatrix {
 public:
  // A kInt8 matrix that lies row after row, copied to `device`.
  IntegerMatrix(const WeightMatrix& matrix, c10::Device device);

  // x (…, N) W^T -> (…, M), in x's type: float32 or bfloat16. A few rows meet the integers as they
  // are; for more, rows of W become floats of that type a part at a time.
  at::Tensor product(const at::Tensor& x) const;
  // The same from x (R, N) to y (R, M) of that type.
  void product_to(const at::Tensor& y, const at::Tensor& x) const;

 private:
  at::Tensor rows(std::int64_t begin, std::int64_t count, at::ScalarType type) const;

  at::Tensor values_, scales_, column_scales_;
  at::Tensor wide_first_, wide_columns_, wide_values_;  // undefined where there are none
};

// By the parameter that each stands for.
using IntegerMatrices = std::unordered_map<const c10::TensorImpl*, IntegerMatrix>;

// x (…, N) times the transposed of a parameter (M, N), or of the integers that stand for it, which
// are found where `integers` is not null; in what linear layers compute in.
at::Tensor linear(const at::Tensor& x, const at::Tensor& matrix, const IntegerMatrices* integers);

}  // namespace rwkvx
