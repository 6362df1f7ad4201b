#include "rwkvx/ops/layer_norm.h"

#include <ATen/ops/layer_norm.h>

namespace rwkvx {

at::Tensor layer_norm(const at::Tensor& x, const NormParameters& norm) {
  return at::layer_norm(x, {norm.weight.size(0)}, norm.weight, norm.bias, kLayerNormEpsilon);
}

}  // namespace rwkvx
