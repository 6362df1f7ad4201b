// WKV of RWKV-4 and its adjoint as phases of threads, for who starts them. The order of every sum
// is fixed: equal calls give equal bits.
#pragma once

#include "cores/rwkv4/cuda/wkv_backward_body.h"
#include "cores/rwkv4/cuda/wkv_forward_body.h"

namespace rwkvx::cuda {

struct WkvForwardLocal {
  template <class Value>
  RWKVX_HOST_DEVICE void operator()(const WkvForwardCall<Value>& call, std::int64_t thread) const {
    wkv_forward_local_thread(call, thread);
  }
};
struct WkvForwardScan {
  template <class Value>
  RWKVX_HOST_DEVICE void operator()(const WkvForwardCall<Value>& call, std::int64_t thread) const {
    wkv_forward_scan_thread(call, thread);
  }
};
struct WkvForwardOutputs {
  template <class Value>
  RWKVX_HOST_DEVICE void operator()(const WkvForwardCall<Value>& call, std::int64_t thread) const {
    wkv_forward_thread(call, thread);
  }
};
struct WkvBackwardLocal {
  template <class Value>
  RWKVX_HOST_DEVICE void operator()(const WkvBackwardCall<Value>& call, std::int64_t thread) const {
    wkv_backward_local_thread(call, thread);
  }
};
struct WkvBackwardScan {
  template <class Value>
  RWKVX_HOST_DEVICE void operator()(const WkvBackwardCall<Value>& call, std::int64_t thread) const {
    wkv_backward_scan_thread(call, thread);
  }
};
struct WkvBackwardGradients {
  template <class Value>
  RWKVX_HOST_DEVICE void operator()(const WkvBackwardCall<Value>& call, std::int64_t thread) const {
    wkv_backward_thread(call, thread);
  }
};
struct WkvBackwardSums {
  template <class Value>
  RWKVX_HOST_DEVICE void operator()(const WkvBackwardCall<Value>& call, std::int64_t thread) const {
    wkv_backward_sums_thread(call, thread);
  }
};

// Calls start(phase, threads) for a pass's phases, each of which needs the one before to have
// ended.
template <class Value, class Start>
void wkv_phases(const WkvForwardCall<Value>& call, const Start& start) {
  const std::int64_t channels = call.B * call.C;
  const std::int64_t segments = wkv_split(call.T, call.segment).segments;
  if (segments > 1) {
    start(WkvForwardLocal(), channels * (segments - 1));
    start(WkvForwardScan(), channels);
  }
  start(WkvForwardOutputs(), channels * segments);
}
template <class Value, class Start>
void wkv_phases(const WkvBackwardCall<Value>& call, const Start& start) {
  const std::int64_t channels = call.B * call.C;
  const std::int64_t segments = wkv_split(call.T, call.segment).segments;
  if (segments > 1) {
    start(WkvBackwardLocal(), channels * (segments - 1));
    start(WkvBackwardScan(), channels);
  }
  start(WkvBackwardGradients(), channels * segments);
  if (segments > 1) start(WkvBackwardSums(), channels);
}

}  // namespace rwkvx::cuda
