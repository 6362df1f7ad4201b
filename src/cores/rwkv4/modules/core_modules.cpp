#include "rwkvx/modules/core_modules.h"

#include "cores/rwkv4/modules/block.h"
#include "cores/rwkv4/modules/pass.h"

namespace rwkvx::rwkv4 {

extern const CoreModules kModules{
    .core = "rwkv4",
    .block = [](const ModelConfig& config, std::int64_t layer) -> std::shared_ptr<BlockImpl> {
      return std::make_shared<Rwkv4BlockImpl>(config, layer);
    },
    .pass = make_pass,
    .pass_lacks = pass_lacks,
    .pass_floats = pass_floats,
    .pass_operators = {"shift_mix", "wkv", "activation"},
};

}  // namespace rwkvx::rwkv4
