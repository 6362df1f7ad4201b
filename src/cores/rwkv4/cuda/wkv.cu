#include "cores/rwkv4/cuda/wkv.h"

namespace rwkvx::cuda {
namespace {

// Few threads a block: where threads are few, they spread over the GPU.
constexpr int kBlock = 32;
// So many that wkv_segment()'s threads run at once: at most 128 registers a thread.
constexpr int kBlocksPerMultiprocessor = 16;

template <class Phase, class Call>
__global__ void __launch_bounds__(kBlock, kBlocksPerMultiprocessor)
    wkv_kernel(const Call call, std::int64_t threads) {
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  if (thread < threads) Phase()(call, thread);
}

template <class Call>
std::string run(const Call& call, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  wkv_phases(call, [&](auto phase, std::int64_t threads) {
    if (error != cudaSuccess || threads == 0) return;
    const auto blocks = static_cast<unsigned>((threads + kBlock - 1) / kBlock);
    wkv_kernel<decltype(phase)><<<blocks, kBlock, 0, stream>>>(call, threads);
    error = cudaGetLastError();
  });
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

}  // namespace

std::string launch(const WkvForwardCall<float>& call, CUstream_st* stream) {
  return run(call, stream);
}
std::string launch(const WkvForwardCall<Bf16>& call, CUstream_st* stream) {
  return run(call, stream);
}
std::string launch(const WkvBackwardCall<float>& call, CUstream_st* stream) {
  return run(call, stream);
}
std::string launch(const WkvBackwardCall<Bf16>& call, CUstream_st* stream) {
  return run(call, stream);
}

}  // namespace rwkvx::cuda
