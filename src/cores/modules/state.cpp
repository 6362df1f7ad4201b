#include "rwkvx/modules/state.h"

#include <ATen/ATen.h>

namespace rwkvx {

ModelState zeros_like(const ModelState& state) {
  ModelState other;
  for (const auto& layer : state.layers) {
    auto& own = other.layers.emplace_back();
    for (const auto& tensor : layer) own.push_back(at::zeros_like(tensor));
  }
  if (state.t.defined()) other.t = at::zeros_like(state.t);
  return other;
}

}  // namespace rwkvx
