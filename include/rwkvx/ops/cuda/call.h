// How an operator's kernel is called: on the GPU for tensors there, and thread by thread on the CPU
// under an Emulation, which is how the kernels are tested without a GPU.
//
// A kernel is a struct of pointers and sizes, its call, with two functions beside it:
//   std::string launch(const Call&, CUstream_st*)   queues it; "" or what CUDA said
//   void emulate(const Call&)                       its body on the CPU
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <string>

#include "rwkvx/ops/cuda/host_device.h"

#ifdef RWKVX_CUDA
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

struct CUstream_st;

namespace rwkvx::cuda {

// Whether an operator's kernel takes x: float32 or bfloat16 on a GPU that the build has kernels
// for, or anywhere on the CPU while an Emulation lives.
bool takes(const at::Tensor& x);

// For tests: the calling thread's tensors on the CPU count as the GPU's.
class Emulation {
 public:
  Emulation();
  ~Emulation();
  Emulation(const Emulation&) = delete;
  Emulation& operator=(const Emulation&) = delete;
};

// Calls run(block) for blocks 0 .. blocks, in parallel: what emulate() is made of.
template <class Run>
void for_each_block(std::int64_t blocks, const Run& run) {
  at::parallel_for(0, blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) run(block);
  });
}

// Autograd takes no undefined tensors: one without elements stands for them.
inline at::Tensor present(const at::Tensor& tensor, const at::Tensor& like) {
  return tensor.defined() ? tensor.contiguous() : like.new_empty({0});
}

template <class Value>
const Value* data(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.numel() == 0) return nullptr;
  return static_cast<const Value*>(tensor.const_data_ptr());
}
template <class Value>
Value* mutable_data(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<Value*>(tensor.mutable_data_ptr()) : nullptr;
}

// Runs a kernel where the tensor `place` lies.
template <class Call>
void run(const Call& call, const at::Tensor& place) {
  if (place.is_cpu()) return emulate(call);
#ifdef RWKVX_CUDA
  const c10::cuda::CUDAGuard guard(place.device());
  const auto error = launch(call, c10::cuda::getCurrentCUDAStream(place.device().index()).stream());
  TORCH_CHECK(error.empty(), "rwkvx's CUDA kernel could not be started: ", error);
#else
  TORCH_CHECK(false, "rwkvx was built without CUDA kernels, got a tensor on ", place.device());
#endif
}

// Calls use.operator()<Value>() for float32 or bfloat16.
template <class Use>
void with_type(at::ScalarType type, const Use& use) {
  if (type == at::kFloat) return use.template operator()<float>();
  TORCH_CHECK(type == at::kBFloat16, "wanted float32 or bfloat16, got ", type);
  use.template operator()<Bf16>();
}

inline at::Tensor gradient(const at::Tensor& given, const at::Tensor& like) {
  return given.defined() ? given.to(like.scalar_type()).contiguous() : at::zeros_like(like);
}

}  // namespace rwkvx::cuda
