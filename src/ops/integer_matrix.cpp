#include "rwkvx/ops/integer_matrix.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "rwkvx/ops/cuda/elementwise_call.h"
#include "rwkvx/ops/cuda/integer_product.h"
#include "rwkvx/ops/precision.h"

namespace rwkvx {
namespace cuda {

template <class Value>
void emulate(const IntegerProductCall<Value>& call) {
  for_each_block(integer_product_tasks(call),
                 [&](std::int64_t task) { integer_product_task(call, task, OneLane()); });
}

}  // namespace cuda

namespace {

// The kernel reads all weights once for kProductRows rows: twice is as much as bfloat16 has.
constexpr std::int64_t kMostRows = 2 * cuda::kProductRows;
constexpr std::int64_t kRowsAtATime = 4096;

// What lies in memory, on a device; nothing where there is nothing.
template <class Value>
at::Tensor copied(const Value* values, at::IntArrayRef shape, at::ScalarType type,
                  c10::Device device) {
  if (values == nullptr) return {};
  // from_blob() takes no constant memory; it is only read.
  return at::from_blob(const_cast<Value*>(values), shape, type)
      .to(device, type, /*non_blocking=*/false, /*copy=*/true);
}

}  // namespace

IntegerMatrix::IntegerMatrix(const WeightMatrix& matrix, c10::Device device) {
  const auto M = matrix.rows, N = matrix.columns, wide = matrix.wide_count();
  TORCH_CHECK(matrix.type == WeightType::kInt8 && !matrix.panels,
              "IntegerMatrix: wanted int8, row after row");
  TORCH_CHECK(N < (std::int64_t{1} << 31) / kRowsAtATime, "IntegerMatrix: ", N, " columns");
  values_ = copied(matrix.values, {M, N}, at::kChar, device);
  scales_ = copied(matrix.scales, {M}, at::kFloat, device);
  column_scales_ = copied(matrix.column_scales, {N}, at::kFloat, device);
  if (wide == 0) return;
  wide_first_ = copied(matrix.wide.first, {M + 1}, at::kInt, device);
  wide_columns_ = copied(matrix.wide.columns, {wide}, at::kInt, device);
  wide_values_ = copied(matrix.wide.values, {wide}, at::kFloat, device);
}

at::Tensor IntegerMatrix::product(const at::Tensor& x) const {
  const auto M = values_.size(0), N = values_.size(1);
  const auto rows_of_x = x.reshape({-1, N}).contiguous();
  auto shape = x.sizes().vec();
  shape.back() = M;
  const auto y = at::empty({rows_of_x.size(0), M}, x.options());
  product_to(y, rows_of_x);
  return y.view(shape);
}

void IntegerMatrix::product_to(const at::Tensor& y, const at::Tensor& x) const {
  const auto M = values_.size(0), N = values_.size(1);
  if (x.size(0) > kMostRows) {
    for (std::int64_t begin = 0; begin < M; begin += kRowsAtATime) {
      const auto count = std::min(kRowsAtATime, M - begin);
      y.narrow(1, begin, count).copy_(at::mm(x, rows(begin, count, x.scalar_type()).t()));
    }
    return;
  }
  if (!y.is_contiguous() || !x.is_contiguous()) {
    y.copy_(product(x));
    return;
  }
  cuda::with_type(x.scalar_type(), [&]<class Value>() {
    cuda::run(
        cuda::IntegerProductCall<Value>{
            x.size(0), M, N, cuda::data<std::int8_t>(values_), cuda::data<float>(scales_),
            cuda::data<float>(column_scales_), cuda::data<std::int32_t>(wide_first_),
            cuda::data<std::int32_t>(wide_columns_), cuda::data<float>(wide_values_),
            cuda::data<Value>(x), cuda::mutable_data<Value>(y)},
        y);
  });
}

// Rows [begin, begin + count) as floats of a type.
at::Tensor IntegerMatrix::rows(std::int64_t begin, std::int64_t count, at::ScalarType type) const {
  const std::int64_t N = values_.size(1);
  auto w = at::empty({count, N}, scales_.options().dtype(type));
  cuda::with_type(type, [&]<class Value>() {
    auto* to = cuda::mutable_data<Value>(w);
    cuda::for_each(cuda::UnpackIntegers<Value>{cuda::data<std::int8_t>(values_) + begin * N,
                                               cuda::data<float>(scales_) + begin,
                                               cuda::data<float>(column_scales_), N, to},
                   w);
    if (wide_first_.defined())
      cuda::run(
          cuda::Elementwise<cuda::UnpackWide<Value>>{
              {cuda::data<std::int32_t>(wide_first_) + begin,
               cuda::data<std::int32_t>(wide_columns_), cuda::data<float>(wide_values_), N, to},
              count},
          w);
  });
  return w;
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& matrix, const IntegerMatrices* integers) {
  if (integers != nullptr)
    if (const auto found = integers->find(matrix.unsafeGetTensorImpl()); found != integers->end())
      return found->second.product(x.to(linear_type(x.device(), x.scalar_type())));
  return at::linear(x, matrix);
}

}  // namespace rwkvx
