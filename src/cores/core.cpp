#include "rwkvx/cores/core.h"

#include <algorithm>

#include "cores/rwkv4/core.h"
#include "rwkvx/base/nearest.h"

namespace rwkvx {
namespace {

// An explicit list, as linkers drop objects of static libraries that only register themselves.
std::vector<const Core*>& table() {
  static std::vector<const Core*> cores{&kRwkv4};
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
