// The WKV kernels' bodies on the CPU, phase after phase; see rwkvx/ops/cuda/call.h.
#pragma once

#include "cores/rwkv4/cuda/wkv.h"
#include "rwkvx/ops/cuda/call.h"

namespace rwkvx::cuda {

template <class Call>
void emulate_wkv(const Call& call) {
  wkv_phases(call, [&](const auto& phase, std::int64_t threads) {
    for_each_block(threads, [&](std::int64_t thread) { phase(call, thread); });
  });
}

template <class Value>
void emulate(const WkvForwardCall<Value>& call) {
  emulate_wkv(call);
}
template <class Value>
void emulate(const WkvBackwardCall<Value>& call) {
  emulate_wkv(call);
}

}  // namespace rwkvx::cuda
