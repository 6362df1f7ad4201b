#include "cores/cuda/facts.h"

#include <ATen/Context.h>
#ifdef RWKVX_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAFunctions.h>
#endif

namespace rwkvx::cuda {

#ifdef RWKVX_CUDA

int usable_gpus() { return at::hasCUDA() ? static_cast<int>(at::getNumGPUs()) : 0; }

std::string no_gpu_reason() {
  std::string reason = "it finds none that it can use";
  try {
    c10::cuda::device_count_ensure_non_zero();
  } catch (const c10::Error& error) {  // the driver is too old, or the GPU does not start
    reason = error.what_without_backtrace();
    reason = reason.substr(0, reason.find('\n'));
  }
  return "LibTorch finds no NVIDIA GPU (" + reason + "); look at nvidia-smi and its driver version";
}

std::string gpu_warning(c10::Device device, bool bfloat16) {
  const auto* found = at::cuda::getDeviceProperties(device.index());
  return capability_warning(device.str(), 10 * found->major + found->minor, bfloat16);
}

#else

int usable_gpus() { return 0; }

std::string no_gpu_reason() {
  return "this program was built without CUDA; scripts/setup --cuda and scripts/build add it, "
         "--device cpu says that it is meant";
}

std::string gpu_warning(c10::Device, bool) { return ""; }

#endif

std::string capability_warning(const std::string& device, int capability, bool bfloat16) {
  if (!bfloat16 || capability == 0 || capability >= 80) return "";
  return device + " has compute capability " + std::to_string(capability / 10) + "." +
         std::to_string(capability % 10) +
         "; below 8.0 bfloat16 is emulated and slow: set train.precision to f32";
}

}  // namespace rwkvx::cuda
