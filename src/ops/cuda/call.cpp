#include "rwkvx/ops/cuda/call.h"

#include "rwkvx/ops/precision.h"

namespace rwkvx::cuda {
namespace {
thread_local bool emulated = false;
}

Emulation::Emulation() { emulated = true; }
Emulation::~Emulation() { emulated = false; }

bool takes(const at::Tensor& x) {
  if (ReferenceOperators::active()) return false;
  if (x.scalar_type() != at::kFloat && x.scalar_type() != at::kBFloat16) return false;
#ifdef RWKVX_CUDA
  if (x.is_cuda()) return true;
#endif
  return emulated && x.is_cpu();
}

}  // namespace rwkvx::cuda
