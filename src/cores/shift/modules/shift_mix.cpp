#include "cores/shift/modules/shift_mix.h"

#include <ATen/ATen.h>

#include "cores/shift/modules/conv_shift.h"
#include "cores/shift/modules/token_shift.h"
#include "rwkvx/modules/device.h"

namespace rwkvx {

std::vector<at::Tensor> shift_mix(const at::Tensor& a, const ShiftParameters& learned,
                                  const at::Tensor& phi, const std::vector<at::Tensor>& mixes,
                                  at::Tensor& ring, at::Tensor& prev) {
  const bool plain = learned.dilation == 1 && !learned.silu;  // what kernels have
  if (const auto* device = kernels_for(a); device != nullptr && plain)
    return device->shift_mix(a, learned, phi, mixes, ring, prev);
  const auto b = ring.defined() ? conv_shift(a, learned, phi, ring) : a;  // (B, T, C)
  const auto before = token_shift(b, prev);                               // (B, T, C)
  prev = b.select(/*dim=*/1, -1).clone();                                 // (B, C)
  std::vector<at::Tensor> z;
  for (const auto& mix : mixes) z.push_back(at::lerp(before, b, mix));  // (B, T, C)
  return z;
}

}  // namespace rwkvx
