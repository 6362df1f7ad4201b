#include "cores/rwkv7/cuda/head.h"
#include "rwkvx/ops/cuda/outcome.h"

namespace rwkvx::cuda {
namespace {

// A warp for each task.
constexpr int kBlock = 128;
constexpr int kTasks = kBlock / Warp::kCount;  // of a block

__device__ __forceinline__ std::int64_t task_here() {
  return static_cast<std::int64_t>(blockIdx.x) * kTasks + threadIdx.x / Warp::kCount;
}

template <class Value>
__global__ void __launch_bounds__(kBlock) head_before_kernel(const HeadBeforeCall<Value> call) {
  if (task_here() < head_tasks(call.in)) head_before(call, task_here(), Warp());
}
template <class Value>
__global__ void __launch_bounds__(kBlock) head_after_kernel(const HeadAfterCall<Value> call) {
  if (task_here() < head_tasks(call.in)) head_after(call, task_here(), Warp());
}
template <class Value>
__global__ void __launch_bounds__(kBlock)
    head_after_adjoint_kernel(const HeadAfterAdjointCall<Value> call) {
  if (task_here() < head_tasks(call.in)) head_after_adjoint(call, task_here(), Warp());
}
template <class Value>
__global__ void __launch_bounds__(kBlock)
    head_before_adjoint_kernel(const HeadBeforeAdjointCall<Value> call) {
  if (task_here() < head_tasks(call.in)) head_before_adjoint(call, task_here(), Warp());
}

template <class Value>
unsigned blocks(const HeadInputs<Value>& in) {
  return static_cast<unsigned>((head_tasks(in) + kTasks - 1) / kTasks);
}

}  // namespace

template <class Value>
std::string launch(const HeadBeforeCall<Value>& call, CUstream_st* stream) {
  if (call.in.rows > 0) head_before_kernel<<<blocks(call.in), kBlock, 0, stream>>>(call);
  return outcome();
}
template <class Value>
std::string launch(const HeadAfterCall<Value>& call, CUstream_st* stream) {
  if (call.in.rows > 0) head_after_kernel<<<blocks(call.in), kBlock, 0, stream>>>(call);
  return outcome();
}
template <class Value>
std::string launch(const HeadAfterAdjointCall<Value>& call, CUstream_st* stream) {
  if (call.in.rows > 0) head_after_adjoint_kernel<<<blocks(call.in), kBlock, 0, stream>>>(call);
  return outcome();
}
template <class Value>
std::string launch(const HeadBeforeAdjointCall<Value>& call, CUstream_st* stream) {
  if (call.in.rows > 0) head_before_adjoint_kernel<<<blocks(call.in), kBlock, 0, stream>>>(call);
  return outcome();
}

#define RWKVX_CALLS(Value)                                                            \
  template std::string launch(const HeadBeforeCall<Value>& call, CUstream_st*);       \
  template std::string launch(const HeadAfterCall<Value>& call, CUstream_st*);        \
  template std::string launch(const HeadAfterAdjointCall<Value>& call, CUstream_st*); \
  template std::string launch(const HeadBeforeAdjointCall<Value>& call, CUstream_st*);
RWKVX_CALLS(float)
RWKVX_CALLS(Bf16)
#undef RWKVX_CALLS

}  // namespace rwkvx::cuda
