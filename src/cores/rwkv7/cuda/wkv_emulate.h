// The kernels' bodies on the CPU; see ops/cuda/call.h.
#pragma once

#include <memory>

#include "cores/rwkv7/cuda/wkv.h"
#include "rwkvx/ops/cuda/call.h"

namespace rwkvx::cuda {

template <class Value>
void emulate(const Wkv7ForwardCall<Value>& call) {
  with_size(call.N, [&](auto size) {
    constexpr int N = decltype(size)::value;
    for_each_block(wkv7_forward_blocks(call.B, call.H, N), [&](std::int64_t block) {
      const auto shared = std::make_unique<Wkv7ForwardShared<N>>();
      wkv7_forward_block<N>(call, block, EmulatedThreads<kWkv7ForwardThreads>(), *shared);
    });
  });
}
template <class Value>
void emulate(const Wkv7BackwardCall<Value>& call) {
  with_size(call.N, [&](auto size) {
    constexpr int N = decltype(size)::value;
    for_each_block(call.B * call.H, [&](std::int64_t block) {
      const auto shared = std::make_unique<Wkv7BackwardShared<N>>();
      wkv7_backward_block<N>(call, block, EmulatedThreads<kWkv7BackwardThreads<N>>(), *shared);
    });
  });
}

}  // namespace rwkvx::cuda
