#include "rwkvx/model/gated_shift.h"

#include <torch/types.h>

namespace rwkvx {

GatedShiftImpl::GatedShiftImpl(const ModelConfig& config) : config_(config) { reset(); }

void GatedShiftImpl::reset() {
  const auto& s = config_.shift;
  const int64_t C = config_.n_embd;
  learned = {};
  const auto add = [&](const char* name, at::IntArrayRef shape) {
    return register_parameter(name, torch::zeros(shape));
  };
  if (s.has_conv()) learned.conv = add("conv", {s.kernel, C});
  if (s.features() > 0) learned.pos_u = add("pos_u", {s.kernel, s.features()});
  const auto form = s.gate_form();
  if (form == "one") return;
  int64_t gates = C;
  if (form == "diag") {
    learned.gate_x = add("gate_x", {C});
    learned.gate_s = add("gate_s", {C});
  } else if (form == "lowrank") {
    learned.gate_d = add("gate_d", {s.gate_rank, C});
    learned.gate_u = add("gate_u", {C, s.gate_rank});
  } else {
    gates = form == "group" ? s.gate_groups : 1;
    learned.gate_w = add("gate_w", {gates, C});
  }
  learned.gate_b = add("gate_b", {gates});
}

at::Tensor GatedShiftImpl::gate(const at::Tensor& a, const at::Tensor& phi,
                                const at::Tensor& ring) const {
  return conv_shift_gate(a, learned, phi, ring);
}

}  // namespace rwkvx
