// A place in a block, as a module, where the shift and the token-shift mixes stand.
#pragma once

#include <string>
#include <vector>

#include "cores/shift/layout.h"
#include "rwkvx/modules/block.h"

namespace rwkvx {

// a (B, T, C), normalized -> z_i (B, T, C) for each mix; see shift_mix.h. Advances the site's state
// and shows it to the context's observer, as `name`.
std::vector<at::Tensor> mix_site(const std::string& name, const ShiftParameters& learned,
                                 const SitePlaces& places, const at::Tensor& a,
                                 const std::vector<at::Tensor>& mixes, const BlockContext& context,
                                 LayerState& state);

}  // namespace rwkvx
