#include "rwkvx/ops/cuda/adamw.h"
#include "rwkvx/ops/cuda/outcome.h"

namespace rwkvx::cuda {
namespace {

__global__ void __launch_bounds__(kAdamwThreads) adamw_kernel(const AdamwCall call) {
  adamw_thread(call, blockIdx.x, static_cast<int>(threadIdx.x));
}

}  // namespace

std::string launch(const AdamwCall& call, CUstream_st* stream) {
  if (call.pieces > 0)
    adamw_kernel<<<static_cast<unsigned>(call.pieces), kAdamwThreads, 0, stream>>>(call);
  return outcome();
}

}  // namespace rwkvx::cuda
