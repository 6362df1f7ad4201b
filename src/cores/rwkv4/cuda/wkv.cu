#include "cores/rwkv4/cuda/wkv.h"

namespace rwkvx::cuda {
namespace {

// Few threads a block: a sequence is walked by one thread, so the channels spread over the GPU.
constexpr int kBlock = 32;

template <class Value>
__global__ void __launch_bounds__(kBlock) wkv_forward_kernel(const WkvForwardCall<Value> call) {
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  if (thread < call.B * call.C) wkv_forward_thread(call, thread);
}

template <class Value>
__global__ void __launch_bounds__(kBlock) wkv_backward_kernel(const WkvBackwardCall<Value> call) {
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  if (thread < call.B * call.C) wkv_backward_thread(call, thread);
}

unsigned blocks(std::int64_t threads) {
  return static_cast<unsigned>((threads + kBlock - 1) / kBlock);
}

std::string outcome() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

template <class Value>
std::string run(const WkvForwardCall<Value>& call, cudaStream_t stream) {
  if (call.B * call.C > 0) wkv_forward_kernel<<<blocks(call.B * call.C), kBlock, 0, stream>>>(call);
  return outcome();
}
template <class Value>
std::string run(const WkvBackwardCall<Value>& call, cudaStream_t stream) {
  if (call.B * call.C > 0)
    wkv_backward_kernel<<<blocks(call.B * call.C), kBlock, 0, stream>>>(call);
  return outcome();
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
