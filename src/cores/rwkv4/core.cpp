// RWKV-4 (arXiv 2305.13048), with the gated positional shift in front of its mixers where the
// configuration asks for it. The equations: docs/model.md.
#include "rwkvx/cores/core.h"

#include "cores/rwkv4/names.h"
#include "cores/rwkv4/parameters.h"
#include "cores/rwkv4/step.h"

namespace rwkvx::rwkv4 {

extern const Core kCore{
    .name = "rwkv4",
    .help = "RWKV-4",
    .check = [](const ModelConfig&, const std::string&) {},
    .parameters = parameters,
    .state = state,
    .cost = cost,
    .recognizes = recognizes,
    .official_name = official_name,
    .infer = infer,
    .step = make_step,
};

}  // namespace rwkvx::rwkv4
