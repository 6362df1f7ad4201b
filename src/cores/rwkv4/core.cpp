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
    .check =
        [](const ModelConfig& config, const std::string& where) {
          const std::pair<const char*, std::int64_t> of_others[] = {
              {"head_size", config.head_size},
              {"decay_rank", config.decay_rank},
              {"iclr_rank", config.iclr_rank},
              {"value_rank", config.value_rank},
              {"gate_rank", config.gate_rank}};
          for (const auto& [name, value] : of_others)
            if (value != 0)
              throw ConfigError(where + "." + name,
                                "expected 0 for the core rwkv4, got " + std::to_string(value));
        },
    .embedding_start = starts_in_embedding_range,
    .parameters = parameters,
    .state = state,
    .cost = cost,
    .recognizes = recognizes,
    .namings = namings,
    .infer = infer,
    .step = make_step,
};

}  // namespace rwkvx::rwkv4
