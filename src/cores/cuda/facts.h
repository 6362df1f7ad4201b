// What the table of devices says about NVIDIA GPUs.
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace rwkvx::cuda {

// GPUs that this build has kernels for and LibTorch can use.
int usable_gpus();
std::string no_gpu_reason();
std::string gpu_warning(c10::Device device, bool bfloat16);
// The same for a GPU of that compute capability, as major * 10 + minor: 90 for an H100; 0 where it
// is not known.
std::string capability_warning(const std::string& device, int capability, bool bfloat16);

}  // namespace rwkvx::cuda
