// Comparing the model's tensors with golden ones.
#pragma once

#include <ATen/ATen.h>

namespace rwkvx::test {

// What float32 allows.
inline constexpr double kValueAbsolute = 2e-5, kValueRelative = 1e-4;
inline constexpr double kGradAbsolute = 5e-5, kGradRelative = 1e-3;

// Rows p, q, o of one state, brought to the scale of another's o.
inline at::Tensor at_scale_of(const at::Tensor& wkv, const at::Tensor& wanted) {
  const auto factor = at::exp(wkv.select(1, 2) - wanted.select(1, 2)).unsqueeze(1);  // (B, 1, C)
  return wkv.slice(1, 0, 2) * factor;
}

}  // namespace rwkvx::test
