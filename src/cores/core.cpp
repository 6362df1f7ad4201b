#include "rwkvx/cores/core.h"

#include <algorithm>

#include "cores/core_list.h"
#include "rwkvx/base/nearest.h"

namespace rwkvx {

#define RWKVX_DECLARE(name) \
  namespace name {          \
  extern const Core kCore;  \
  }
RWKVX_CORES(RWKVX_DECLARE)

namespace {

std::vector<const Core*>& table() {
#define RWKVX_ROW(name) &name::kCore,
  static std::vector<const Core*> cores{RWKVX_CORES(RWKVX_ROW)};
  return cores;
}

}  // namespace

std::span<const Core* const> all_cores() { return table(); }

void register_core(const Core& core) { table().push_back(&core); }

const Core& find_core(std::string_view name, const std::string& where) {
  std::vector<std::string> names;
  for (const auto* core : table()) {
    if (core->name == name) return *core;
    names.emplace_back(core->name);
  }
  throw ConfigError(where, "expected one of " + name_list(names) + ", got \"" + std::string(name) +
                               "\"" + did_you_mean(std::string(name), names));
}

const Core& core_of(const ModelConfig& config) { return find_core(config.core, "model.core"); }

void check_model(const ModelConfig& config, const std::string& where) {
  find_core(config.core, where + ".core").check(config, where);
}

std::string block_prefix(std::int64_t layer) { return "blocks." + std::to_string(layer) + "."; }

}  // namespace rwkvx
