#include "rwkvx/modules/core_modules.h"

#include "cores/rwkv7/modules/block.h"
#include "cores/rwkv7/modules/pass.h"

namespace rwkvx::rwkv7 {

extern const CoreModules kModules{
    .core = "rwkv7",
    .block = [](const ModelConfig& config, std::int64_t layer) -> std::shared_ptr<BlockImpl> {
      return std::make_shared<Rwkv7BlockImpl>(config, layer);
    },
    .pass = make_pass,
    .pass_lacks = pass_lacks,
    .pass_floats = pass_floats,
    .pass_operators = {"shift_mix", "wkv", "activation"},
};

}  // namespace rwkvx::rwkv7
