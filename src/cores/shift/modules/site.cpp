#include "cores/shift/modules/site.h"

#include "cores/shift/modules/conv_shift.h"
#include "cores/shift/modules/shift_mix.h"

namespace rwkvx {

std::vector<at::Tensor> mix_site(const std::string& name, const ShiftParameters& learned,
                                 const SitePlaces& places, const at::Tensor& a,
                                 const std::vector<at::Tensor>& mixes, const BlockContext& context,
                                 LayerState& state) {
  auto& prev = state[static_cast<std::size_t>(places.prev)];
  at::Tensor none;
  auto& ring = places.ring < 0 ? none : state[static_cast<std::size_t>(places.ring)];
  if (context.observer && ring.defined()) {
    const auto gate = conv_shift_gate(a, learned, context.phi, ring);
    auto past = ring;  // conv_shift() replaces the tensor, not its numbers
    context.observer({name, a, gate, conv_shift(a, learned, context.phi, past) - a});
  }
  return shift_mix(a, learned, context.phi, mixes, ring, prev);
}

}  // namespace rwkvx
