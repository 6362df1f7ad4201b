// Starts the WKV kernels on the GPU. Pointers are the device's; the work, a kernel for each phase,
// is queued on `stream`. Each returns "" or what CUDA said about the launches.
#pragma once

#include <string>

#include "cores/rwkv4/cuda/wkv_body.h"

struct CUstream_st;

namespace rwkvx::cuda {

std::string launch(const WkvForwardCall<float>& call, CUstream_st* stream);
std::string launch(const WkvForwardCall<Bf16>& call, CUstream_st* stream);
std::string launch(const WkvBackwardCall<float>& call, CUstream_st* stream);
std::string launch(const WkvBackwardCall<Bf16>& call, CUstream_st* stream);

}  // namespace rwkvx::cuda
