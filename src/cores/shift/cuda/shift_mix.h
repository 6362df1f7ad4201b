// Starts the kernels of the shift and the mixes on the GPU. Pointers are the device's; the work is
// queued on `stream`. Each returns "" or what CUDA said about the launch.
#pragma once

#include <string>

#include "cores/shift/cuda/shift_mix_fixed_body.h"

struct CUstream_st;

namespace rwkvx::cuda {

std::string launch(const ShiftMixForwardCall<float, float>& call, CUstream_st* stream);
std::string launch(const ShiftMixForwardCall<float, Bf16>& call, CUstream_st* stream);
std::string launch(const ShiftMixBackwardCall<float, float>& call, CUstream_st* stream);
std::string launch(const ShiftMixBackwardCall<float, Bf16>& call, CUstream_st* stream);

}  // namespace rwkvx::cuda
