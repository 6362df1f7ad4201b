// RWKV-7 "Goose" (arXiv 2503.14456), with the gated positional shift in front of its mixers where
// the configuration asks for it. The equations: docs/model.md.
#include "rwkvx/cores/core.h"

#include "cores/rwkv7/names.h"
#include "cores/rwkv7/parameters.h"
#include "cores/rwkv7/step.h"

namespace rwkvx::rwkv7 {

extern const Core kCore{
    .name = "rwkv7",
    .help = "RWKV-7",
    .check = check,
    .embedding_start = [] { return starts_uniform(1e-4); },
    .parameters = parameters,
    .state = state,
    .cost = cost,
    .recognizes = recognizes,
    .namings = namings,
    .infer = infer,
    .unused = unused,
    .step = make_step,
};

}  // namespace rwkvx::rwkv7
