// The kernels' bodies on the processor, block by block and thread by thread.
#pragma once

#include <ATen/Parallel.h>

#include "ops/cuda/shift_mix_body.h"
#include "ops/cuda/wkv_body.h"

namespace rwkvx::cuda {

template <class Run>
void for_each_block(std::int64_t blocks, const Run& run) {
  at::parallel_for(0, blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) run(block);
  });
}

template <class Value>
void emulate(const WkvForwardCall<Value>& call) {
  for_each_block(call.B * call.C, [&](std::int64_t thread) { wkv_forward_thread(call, thread); });
}
template <class Value>
void emulate(const WkvBackwardCall<Value>& call) {
  for_each_block(call.B * call.C, [&](std::int64_t thread) { wkv_backward_thread(call, thread); });
}

template <class In, class Out>
void emulate(const ShiftMixForwardCall<In, Out>& call) {
  const ShiftMixGrid grid(call.in.B, call.in.T, call.in.C);
  for_each_block(grid.blocks, [&](std::int64_t block) {
    for (int thread = 0; thread < kShiftMixBlock; ++thread)
      shift_mix_forward_thread(call, grid.place(block, thread));
  });
}
template <class In, class Out>
void emulate(const ShiftMixBackwardCall<In, Out>& call) {
  const ShiftMixGrid grid(call.in.B, call.in.T, call.in.C);
  for_each_block(grid.blocks, [&](std::int64_t block) {
    for (int thread = 0; thread < kShiftMixBlock; ++thread)
      shift_mix_backward_thread(call, grid.place(block, thread), OneLane());
  });
}

}  // namespace rwkvx::cuda
