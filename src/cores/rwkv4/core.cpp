#include "cores/rwkv4/core.h"

#include "cores/rwkv4/block.h"
#include "cores/rwkv4/names.h"
#include "cores/rwkv4/parameters.h"
#include "cores/rwkv4/pass.h"
#include "cores/rwkv4/step.h"

namespace rwkvx {

using namespace rwkv4;

const Core kRwkv4{
    .name = "rwkv4",
    .help = "RWKV-4",
    .check = [](const ModelConfig&, const std::string&) {},
    .parameters = parameters,
    .state = state,
    .cost = cost,
    .recognizes = recognizes,
    .official_name = official_name,
    .infer = infer,
    .block = [](const ModelConfig& config, std::int64_t layer) -> std::shared_ptr<BlockImpl> {
      return std::make_shared<Rwkv4BlockImpl>(config, layer);
    },
    .step = make_step,
    .pass = make_pass,
    .pass_lacks = pass_lacks,
    .pass_floats = pass_floats,
    .pass_operators = {"shift_mix", "wkv", "activation"},
};

}  // namespace rwkvx
