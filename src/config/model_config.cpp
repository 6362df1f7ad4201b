#include "rwkvx/config/model_config.h"

namespace rwkvx {

void ModelConfig::check(const std::string& where) const {
  if (!shift.enabled()) return;
  const std::string site = where + ".shift";
  if (shift.ablation == Ablation::kGateOnly && shift.gate == Gate::kOne)
    throw ConfigError(site, "ablation gate_only needs a gate, but gate is one");
  if (shift.gate_form() == Gate::kGroup && n_embd % shift.gate_groups != 0)
    throw ConfigError(
        site + ".gate_groups",
        std::to_string(shift.gate_groups) + " does not divide n_embd = " + std::to_string(n_embd));
}

RWKVX_SETTINGS_FUNCTIONS(, ModelConfig)

}  // namespace rwkvx
