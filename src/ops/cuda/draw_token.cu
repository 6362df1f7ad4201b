#include "rwkvx/ops/cuda/draw_token.h"
#include "rwkvx/ops/cuda/outcome.h"

namespace rwkvx::cuda {
namespace {

__global__ void __launch_bounds__(kDrawThreads) draw_kernel(const DrawCall call) {
  __shared__ DrawShared shared;
  draw_block(call, blockIdx.x, GpuBlock(), shared);
}

}  // namespace

std::string launch(const DrawCall& call, CUstream_st* stream) {
  if (call.rows > 0)
    draw_kernel<<<static_cast<unsigned>(call.rows), kDrawThreads, 0, stream>>>(call);
  return outcome();
}

}  // namespace rwkvx::cuda
