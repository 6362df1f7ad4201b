// Starts the kernels around RWKV-7's recurrence on the GPU. Pointers are the device's; the work is
// queued on `stream`. Each returns "" or what CUDA said about the launch.
#pragma once

#include <string>

#include "cores/rwkv7/cuda/head_body.h"

struct CUstream_st;

namespace rwkvx::cuda {

// There for float and Bf16.
template <class Value>
std::string launch(const HeadBeforeCall<Value>& call, CUstream_st* stream);
template <class Value>
std::string launch(const HeadAfterCall<Value>& call, CUstream_st* stream);
template <class Value>
std::string launch(const HeadAfterAdjointCall<Value>& call, CUstream_st* stream);
template <class Value>
std::string launch(const HeadBeforeAdjointCall<Value>& call, CUstream_st* stream);

}  // namespace rwkvx::cuda
