#include "cores/rwkv7/cuda/wkv.h"
#include "rwkvx/ops/cuda/outcome.h"

namespace rwkvx::cuda {
namespace {

// The threads of a block, each in its own place.
struct GpuThreads : GpuBlock {
  template <class Type>
  struct Each {
    Type one;
    __device__ __forceinline__ Type& of(int) { return one; }
  };
  __device__ __forceinline__ void add_parts(Each<float>& each) const {
    for (int away = kWkv7Parts / 2; away > 0; away /= 2)
      each.one += __shfl_xor_sync(0xffffffffu, each.one, away);
  }
};

template <int N, class Value>
__global__ void __launch_bounds__(kWkv7ForwardThreads)
    wkv7_forward_kernel(const Wkv7ForwardCall<Value> call) {
  __shared__ Wkv7ForwardShared<N> shared;
  wkv7_forward_block<N>(call, blockIdx.x, GpuThreads(), shared);
}

template <int N, class Value>
__global__ void __launch_bounds__(kWkv7BackwardThreads<N>)
    wkv7_backward_kernel(const Wkv7BackwardCall<Value> call) {
  __shared__ Wkv7BackwardShared<N> shared;
  wkv7_backward_block<N>(call, blockIdx.x, GpuThreads(), shared);
}

template <class Value>
std::string run(const Wkv7ForwardCall<Value>& call, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(wkv7_forward_blocks(call.B, call.H, call.N));
  with_size(call.N, [&](auto size) {
    constexpr int N = decltype(size)::value;
    if (blocks > 0) wkv7_forward_kernel<N><<<blocks, kWkv7ForwardThreads, 0, stream>>>(call);
  });
  return outcome();
}
template <class Value>
std::string run(const Wkv7BackwardCall<Value>& call, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(call.B * call.H);
  with_size(call.N, [&](auto size) {
    constexpr int N = decltype(size)::value;
    if (blocks > 0) wkv7_backward_kernel<N><<<blocks, kWkv7BackwardThreads<N>, 0, stream>>>(call);
  });
  return outcome();
}

}  // namespace

std::string launch(const Wkv7ForwardCall<float>& call, CUstream_st* stream) {
  return run(call, stream);
}
std::string launch(const Wkv7ForwardCall<Bf16>& call, CUstream_st* stream) {
  return run(call, stream);
}
std::string launch(const Wkv7BackwardCall<float>& call, CUstream_st* stream) {
  return run(call, stream);
}
std::string launch(const Wkv7BackwardCall<Bf16>& call, CUstream_st* stream) {
  return run(call, stream);
}

}  // namespace rwkvx::cuda
