#include "rwkvx/ops/cuda/upload.h"

#include <ATen/ATen.h>

#include <cstring>

namespace rwkvx::cuda {

void upload_to(const at::Tensor& to, const void* from) {
  // Pinned memory is copied while the processor goes on; LibTorch keeps it until that is done.
  const auto here = at::empty(
      to.sizes(), at::TensorOptions(to.scalar_type()).pinned_memory(to.device().is_cuda()));
  if (here.numel() > 0) std::memcpy(here.mutable_data_ptr(), from, here.nbytes());
  to.copy_(here, /*non_blocking=*/true);
}

at::Tensor upload(const void* from, at::IntArrayRef shape, at::ScalarType type,
                  c10::Device device) {
  auto to = at::empty(shape, at::TensorOptions(type).device(device));
  upload_to(to, from);
  return to;
}

}  // namespace rwkvx::cuda
