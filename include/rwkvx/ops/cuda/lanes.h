// Who computes together, in the *_body.h files.
//
// Lanes, for a sum: a warp on the GPU, one lane on the CPU. A lane takes every kCount-th number
// from index() on; sum() is called by all of them, gives all of them the sum, and first() is true
// in one.
//
// The threads of a block: run(f) is f(thread) for every thread; after meet() all have come there,
// and see what the others wrote to shared memory. On the CPU they run one after the other.
#pragma once

#include "rwkvx/ops/cuda/host_device.h"

namespace rwkvx::cuda {

constexpr int kWarp = 32;

// A lane that sums with nobody else.
struct OneLane {
  static constexpr int kCount = 1;
  RWKVX_HOST_DEVICE int index() const { return 0; }
  RWKVX_HOST_DEVICE float sum(float x) const { return x; }
  RWKVX_HOST_DEVICE bool first() const { return true; }
};

template <int kThreads>
struct EmulatedBlock {
  template <class Run>
  RWKVX_HOST_DEVICE void run(const Run& run) const {
    for (int thread = 0; thread < kThreads; ++thread) run(thread);
  }
  RWKVX_HOST_DEVICE void meet() const {}
};

#ifdef __CUDACC__
struct GpuBlock {
  template <class Run>
  __device__ __forceinline__ void run(const Run& run) const {
    run(static_cast<int>(threadIdx.x));
  }
  __device__ __forceinline__ void meet() const { __syncthreads(); }
};

// The threads of a warp, in blocks of one dimension.
struct Warp {
  static constexpr int kCount = kWarp;
  __device__ __forceinline__ int index() const { return static_cast<int>(threadIdx.x) % kCount; }
  __device__ __forceinline__ float sum(float x) const {
    for (int away = kCount / 2; away > 0; away /= 2) x += __shfl_xor_sync(0xffffffffu, x, away);
    return x;
  }
  __device__ __forceinline__ bool first() const { return index() == 0; }
};
#endif

}  // namespace rwkvx::cuda
