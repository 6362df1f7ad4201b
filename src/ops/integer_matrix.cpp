#include "rwkvx/ops/integer_matrix.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "rwkvx/ops/cuda/call.h"
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
  values_ = copied(matrix.values, {M, N}, at::kChar, device);
  scales_ = copied(matrix.scales, {M}, at::kFloat, device);
  column_scales_ = copied(matrix.column_scales, {N}, at::kFloat, device);
  if (wide == 0) return;
  wide_first_here_.assign(matrix.wide.first, matrix.wide.first + M + 1);
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
  if (rows_of_x.size(0) > kMostRows) {
    for (std::int64_t begin = 0; begin < M; begin += kRowsAtATime) {
      const auto count = std::min(kRowsAtATime, M - begin);
      y.narrow(1, begin, count).copy_(at::mm(rows_of_x, rows(begin, count, x.scalar_type()).t()));
    }
    return y.view(shape);
  }
  cuda::with_type(x.scalar_type(), [&]<class Value>() {
    cuda::run(
        cuda::IntegerProductCall<Value>{
            rows_of_x.size(0), M, N, cuda::data<std::int8_t>(values_), cuda::data<float>(scales_),
            cuda::data<float>(column_scales_), cuda::data<std::int32_t>(wide_first_),
            cuda::data<std::int32_t>(wide_columns_), cuda::data<float>(wide_values_),
            cuda::data<Value>(rows_of_x), cuda::mutable_data<Value>(y)},
        y);
  });
  return y.view(shape);
}

// Rows [begin, begin + count) as floats of a type.
at::Tensor IntegerMatrix::rows(std::int64_t begin, std::int64_t count, at::ScalarType type) const {
  auto w = values_.narrow(0, begin, count).to(at::kFloat);
  w.mul_(scales_.narrow(0, begin, count).unsqueeze(1));
  if (column_scales_.defined()) w.mul_(column_scales_);
  if (wide_first_.defined()) {
    const auto first = wide_first_here_[static_cast<std::size_t>(begin)],
               last = wide_first_here_[static_cast<std::size_t>(begin + count)];
    const auto lengths = wide_first_.narrow(0, begin, count + 1).diff().to(at::kLong);
    const auto own = at::repeat_interleave(at::arange(count, lengths.options()), lengths, 0,
                                           /*output_size=*/last - first);
    w.index_put_({own, wide_columns_.narrow(0, first, last - first).to(at::kLong)},
                 wide_values_.narrow(0, first, last - first));
  }
  return w.to(type);
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& matrix, const IntegerMatrices* integers) {
  if (integers != nullptr)
    if (const auto found = integers->find(matrix.unsafeGetTensorImpl()); found != integers->end())
      return found->second.product(x.to(linear_type(x.device(), x.scalar_type())));
  return at::linear(x, matrix);
}

}  // namespace rwkvx
