// Settings tables as command-line flags and as the settings of `--config` and `--set`.
#pragma once

#include <string>
#include <vector>

#include "cli/arguments.h"
#include "rwkvx/base/field.h"
#include "rwkvx/generate/generate_config.h"

namespace CLI {
class App;
}

namespace rwkvx {

class Generator;

// "top_k" as "--top-k".
std::string flag_name(std::string_view field);

// Adds a flag for one setting. Its value is collected as JSON in `given`, which must outlive the
// parsing.
void add_setting_flag(CLI::App& command, const FieldInfo& setting, nlohmann::json& given);

// The same for every row of a settings table, old names included; turn `given` into the settings
// with settings_from_flags().
template <HasFields Config>
void add_setting_flags(CLI::App& command, nlohmann::json& given) {
  given = nlohmann::json::object();
  for (const auto& setting : describe_fields<Config>()) add_setting_flag(command, setting, given);
  for_each_field<Config>([&](const auto& field) {
    if (!field.old_name.empty())
      add_old_name(command, flag_name(field.old_name), flag_name(field.name));
  });
}

// An error about one of these settings, which names its flag as it was typed.
ConfigError with_flag_name(const ConfigError& error, const std::vector<std::string>& settings);

// The settings of the flags that were given. Errors name the flag.
template <HasFields Config>
Config settings_from_flags(const nlohmann::json& given) {
  try {
    return config_from_json<Config>(given, "");
  } catch (const ConfigError& error) {
    std::vector<std::string> names;
    for (const auto& item : given.items()) names.push_back(item.key());
    throw with_flag_name(error, names);
  }
}

// Throws ConfigError for settings of samplers that were given, have a value that would change the
// text, and are not among `samplers`.
void refuse_idle_samplers(const nlohmann::json& given, const GenerateConfig& config);

// Generator::check(), its errors naming the flag.
void check_generation(const Generator& generator, const GenerateConfig& config);

}  // namespace rwkvx
