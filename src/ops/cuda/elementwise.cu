#include "rwkvx/ops/cuda/elementwise.h"
#include "rwkvx/ops/cuda/outcome.h"

namespace rwkvx::cuda {
namespace {

constexpr int kBlock = 256;

template <class Step>
__global__ void __launch_bounds__(kBlock) elementwise_kernel(const Elementwise<Step> call) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  if (i < call.count) call.step.at(i);
}

}  // namespace

template <class Step>
std::string launch(const Elementwise<Step>& call, CUstream_st* stream) {
  if (call.count > 0)
    elementwise_kernel<<<static_cast<unsigned>((call.count + kBlock - 1) / kBlock), kBlock, 0,
                         stream>>>(call);
  return outcome();
}

#define RWKVX_STEP(Name)                                                           \
  template std::string launch(const Elementwise<Name<float>>& call, CUstream_st*); \
  template std::string launch(const Elementwise<Name<Bf16>>& call, CUstream_st*);
RWKVX_STEP(Residual)
RWKVX_STEP(GatedResidual)
RWKVX_STEP(GatedResidualAdjoint)
RWKVX_STEP(ReluSquare)
RWKVX_STEP(ReluSquareAdjoint)
RWKVX_STEP(Tanh)
RWKVX_STEP(TanhAdjoint)
RWKVX_STEP(Sigmoid)
RWKVX_STEP(SigmoidAdjoint)
RWKVX_STEP(UnpackIntegers)
RWKVX_STEP(UnpackWide)
#undef RWKVX_STEP
template std::string launch(const Elementwise<Dropout>& call, CUstream_st*);
template std::string launch(const Elementwise<EmbeddingGradient>& call, CUstream_st*);

}  // namespace rwkvx::cuda
