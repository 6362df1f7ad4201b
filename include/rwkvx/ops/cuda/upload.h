// Numbers of the processor to a device, without waiting for it.
#pragma once

#include <ATen/core/Tensor.h>

namespace rwkvx::cuda {

// A copy of what lies at `from`, which is free afterwards.
at::Tensor upload(const void* from, at::IntArrayRef shape, at::ScalarType type, c10::Device device);
// The same into a contiguous tensor.
void upload_to(const at::Tensor& to, const void* from);

}  // namespace rwkvx::cuda
