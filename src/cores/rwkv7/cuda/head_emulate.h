// The kernels' bodies on the CPU; see ops/cuda/call.h.
#pragma once

#include "cores/rwkv7/cuda/head.h"
#include "rwkvx/ops/cuda/call.h"

namespace rwkvx::cuda {

template <class Value>
void emulate(const HeadBeforeCall<Value>& call) {
  for_each_block(head_tasks(call.in),
                 [&](std::int64_t task) { head_before(call, task, OneLane()); });
}
template <class Value>
void emulate(const HeadAfterCall<Value>& call) {
  for_each_block(head_tasks(call.in),
                 [&](std::int64_t task) { head_after(call, task, OneLane()); });
}
template <class Value>
void emulate(const HeadAfterAdjointCall<Value>& call) {
  for_each_block(head_tasks(call.in),
                 [&](std::int64_t task) { head_after_adjoint(call, task, OneLane()); });
}
template <class Value>
void emulate(const HeadBeforeAdjointCall<Value>& call) {
  for_each_block(head_tasks(call.in),
                 [&](std::int64_t task) { head_before_adjoint(call, task, OneLane()); });
}

}  // namespace rwkvx::cuda
