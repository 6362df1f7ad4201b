// The kernels' bodies on the CPU; see ops/cuda/call.h.
#pragma once

#include "cores/shift/cuda/shift_mix.h"
#include "rwkvx/ops/cuda/call.h"

namespace rwkvx::cuda {

template <class In, class Out>
void emulate(const ShiftMixForwardCall<In, Out>& call) {
  const ShiftMixGrid grid(call.in.B, call.in.T, call.in.C);
  with_shape(call.in, [&](auto shape) {
    for_each_block(grid.blocks, [&](std::int64_t block) {
      for (int thread = 0; thread < kShiftMixBlock; ++thread)
        shift_mix_forward_thread(call, grid.place(block, thread), shape);
    });
  });
}
template <class In, class Out>
void emulate(const ShiftMixBackwardCall<In, Out>& call) {
  const ShiftMixGrid grid(call.in.B, call.in.T, call.in.C);
  with_shape(call.in, [&](auto shape) {
    for_each_block(grid.blocks, [&](std::int64_t block) {
      for (int thread = 0; thread < kShiftMixBlock; ++thread)
        shift_mix_backward_thread(call, grid.place(block, thread), OneLane(), shape);
    });
  });
}

}  // namespace rwkvx::cuda
