#include "rwkvx/ops/cuda/upload.h"

#include <ATen/ATen.h>

#include <cstring>

namespace rwkvx::cuda {

at::Tensor upload(const void* from, at::IntArrayRef shape, at::ScalarType type,
                  c10::Device device) {
  // Pinned memory is copied while the processor goes on; LibTorch keeps it until that is done.
  const auto here = at::empty(shape, at::TensorOptions(type).pinned_memory(device.is_cuda()));
  if (here.numel() > 0) std::memcpy(here.mutable_data_ptr(), from, here.nbytes());
  return here.to(device, /*non_blocking=*/true);
}

}  // namespace rwkvx::cuda
