#include "cores/shift/cuda/shift_mix.h"
#include "rwkvx/ops/cuda/outcome.h"

namespace rwkvx::cuda {
namespace {

static_assert(kShiftMixBlock % Warp::kCount == 0);

template <class Shape, class In, class Out>
__global__ void __launch_bounds__(kShiftMixBlock)
    shift_mix_forward_kernel(const ShiftMixForwardCall<In, Out> call, const ShiftMixGrid grid) {
  shift_mix_forward_thread(call, grid.place(blockIdx.x, threadIdx.x), Shape());
}

template <class Shape, class In, class Out>
__global__ void __launch_bounds__(kShiftMixBlock)
    shift_mix_backward_kernel(const ShiftMixBackwardCall<In, Out> call, const ShiftMixGrid grid) {
  shift_mix_backward_thread(call, grid.place(blockIdx.x, threadIdx.x), Warp(), Shape());
}

template <class In, class Out>
std::string run(const ShiftMixForwardCall<In, Out>& call, cudaStream_t stream) {
  const ShiftMixGrid grid(call.in.B, call.in.T, call.in.C);
  if (grid.blocks == 0) return "";
  with_shape(call.in, [&](auto shape) {
    shift_mix_forward_kernel<decltype(shape)>
        <<<static_cast<unsigned>(grid.blocks), kShiftMixBlock, 0, stream>>>(call, grid);
  });
  return outcome();
}
template <class In, class Out>
std::string run(const ShiftMixBackwardCall<In, Out>& call, cudaStream_t stream) {
  const ShiftMixGrid grid(call.in.B, call.in.T, call.in.C);
  if (grid.blocks == 0) return "";
  with_shape(call.in, [&](auto shape) {
    shift_mix_backward_kernel<decltype(shape)>
        <<<static_cast<unsigned>(grid.blocks), kShiftMixBlock, 0, stream>>>(call, grid);
  });
  return outcome();
}

}  // namespace

std::string launch(const ShiftMixForwardCall<float, float>& call, CUstream_st* stream) {
  return run(call, stream);
}
std::string launch(const ShiftMixForwardCall<float, Bf16>& call, CUstream_st* stream) {
  return run(call, stream);
}
std::string launch(const ShiftMixBackwardCall<float, float>& call, CUstream_st* stream) {
  return run(call, stream);
}
std::string launch(const ShiftMixBackwardCall<float, Bf16>& call, CUstream_st* stream) {
  return run(call, stream);
}

}  // namespace rwkvx::cuda
