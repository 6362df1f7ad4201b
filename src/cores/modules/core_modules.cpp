#include "rwkvx/modules/core_modules.h"

#include "cores/core_list.h"
#include "rwkvx/base/error.h"
#include "rwkvx/cores/core.h"

namespace rwkvx {

#define RWKVX_DECLARE(name)          \
  namespace name {                   \
  extern const CoreModules kModules; \
  }
RWKVX_CORES(RWKVX_DECLARE)

namespace {

std::vector<const CoreModules*>& table() {
#define RWKVX_ROW(name) &name::kModules,
  static std::vector<const CoreModules*> modules{RWKVX_CORES(RWKVX_ROW)};
  return modules;
}

}  // namespace

const CoreModules& modules_of(const ModelConfig& config) {
  const auto& core = core_of(config);
  for (const auto* modules : table())
    if (modules->core == core.name) return *modules;
  throw ConfigError("model.core", "the core " + std::string(core.name) + " has no modules");
}

void register_modules(const CoreModules& modules) { table().push_back(&modules); }

}  // namespace rwkvx
