// What the arithmetic of the CUDA kernels is written in. The *_body.h files compile for the GPU and
// for the processor, where the tests run them thread by thread; they see neither CUDA nor LibTorch.
#pragma once

#include <math.h>
#include <string.h>

#include <cstdint>

#ifdef __CUDACC__
#define RWKVX_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define RWKVX_HOST_DEVICE inline
#endif

// Before a loop that is to be unrolled on the GPU, so that its arrays are registers.
#ifdef __CUDA_ARCH__
#define RWKVX_UNROLL _Pragma("unroll")
#else
#define RWKVX_UNROLL
#endif

namespace rwkvx::cuda {

// The upper half of a float32, with the layout of at::BFloat16.
struct Bf16 {
  std::uint16_t bits;
};

RWKVX_HOST_DEVICE float load(const float* x, std::int64_t i) { return x[i]; }
RWKVX_HOST_DEVICE float load(const Bf16* x, std::int64_t i) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x[i].bits) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

RWKVX_HOST_DEVICE void store(float* x, std::int64_t i, float value) { x[i] = value; }
// To the nearest, ties to even.
RWKVX_HOST_DEVICE void store(Bf16* x, std::int64_t i, float value) {
  std::uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (value != value) {
    bits = 0x7fc00000u;
  } else {
    bits += 0x7fffu + ((bits >> 16) & 1u);
  }
  x[i].bits = static_cast<std::uint16_t>(bits >> 16);
}

// Only exponentials of numbers <= 0 are taken, so neither end of the range is lost.
RWKVX_HOST_DEVICE float sigmoid(float x) {
  const float e = expf(-fabsf(x));
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

// 2^n for whole n; 0 below the range of normal numbers, capped above it.
RWKVX_HOST_DEVICE float power2(float n) {
  if (n < -126.0f) return 0.0f;
  return ldexpf(1.0f, static_cast<int>(fminf(n, 127.0f)));
}

}  // namespace rwkvx::cuda
