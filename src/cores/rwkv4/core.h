// RWKV-4 (arXiv 2305.13048), with the gated positional shift in front of its mixers where the
// configuration asks for it. The equations: docs/model.md.
#pragma once

#include "rwkvx/cores/core.h"

namespace rwkvx {

extern const Core kRwkv4;

}  // namespace rwkvx
