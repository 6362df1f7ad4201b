#include "rwkvx/ops/cuda/cross_entropy.h"
#include "rwkvx/ops/cuda/outcome.h"

namespace rwkvx::cuda {
namespace {

template <class Value>
__global__ void __launch_bounds__(kCrossEntropyThreads)
    cross_entropy_kernel(const CrossEntropyCall<Value> call) {
  __shared__ CrossEntropyShared shared;
  cross_entropy_block(call, blockIdx.x, GpuBlock(), shared);
}

template <class Value>
std::string run(const CrossEntropyCall<Value>& call, cudaStream_t stream) {
  if (call.rows > 0)
    cross_entropy_kernel<<<static_cast<unsigned>(call.rows), kCrossEntropyThreads, 0, stream>>>(
        call);
  return outcome();
}

}  // namespace

std::string launch(const CrossEntropyCall<float>& call, CUstream_st* stream) {
  return run(call, stream);
}
std::string launch(const CrossEntropyCall<Bf16>& call, CUstream_st* stream) {
  return run(call, stream);
}

}  // namespace rwkvx::cuda
