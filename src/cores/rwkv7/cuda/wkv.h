// Starts RWKV-7's WKV kernels on the GPU. Pointers are the device's; the work is queued on
// `stream`. Each returns "" or what CUDA said about the launch.
#pragma once

#include <string>

#include "cores/rwkv7/cuda/wkv_body.h"

struct CUstream_st;

namespace rwkvx::cuda {

std::string launch(const Wkv7ForwardCall<float>& call, CUstream_st* stream);
std::string launch(const Wkv7ForwardCall<Bf16>& call, CUstream_st* stream);
std::string launch(const Wkv7BackwardCall<float>& call, CUstream_st* stream);
std::string launch(const Wkv7BackwardCall<Bf16>& call, CUstream_st* stream);

}  // namespace rwkvx::cuda
