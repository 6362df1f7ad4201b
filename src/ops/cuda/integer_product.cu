#include "rwkvx/ops/cuda/integer_product.h"
#include "rwkvx/ops/cuda/outcome.h"

namespace rwkvx::cuda {
namespace {

constexpr int kWarps = 4;

template <class Value>
__global__ void __launch_bounds__(kWarps* kWarp)
    integer_product_kernel(const IntegerProductCall<Value> call) {
  const std::int64_t task =
      static_cast<std::int64_t>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  if (task < integer_product_tasks(call)) integer_product_task(call, task, Warp());
}

template <class Value>
std::string run(const IntegerProductCall<Value>& call, cudaStream_t stream) {
  const std::int64_t tasks = integer_product_tasks(call);
  if (tasks > 0)
    integer_product_kernel<<<static_cast<unsigned>((tasks + kWarps - 1) / kWarps), kWarps * kWarp,
                             0, stream>>>(call);
  return outcome();
}

}  // namespace

std::string launch(const IntegerProductCall<float>& call, CUstream_st* stream) {
  return run(call, stream);
}
std::string launch(const IntegerProductCall<Bf16>& call, CUstream_st* stream) {
  return run(call, stream);
}

}  // namespace rwkvx::cuda
