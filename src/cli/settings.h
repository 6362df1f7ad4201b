// Settings tables as command-line flags and as the settings of `--config` and `--set`.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <vector>

#include "cli/arguments.h"
#include "rwkvx/base/field.h"
#include "rwkvx/generate/generate_config.h"

namespace rwkvx {

// "top_k" as "--top-k".
inline std::string flag_name(std::string_view field) {
  std::string name = "--";
  for (const char c : field) name += c == '_' ? '-' : c;
  return name;
}

// Adds a flag for every row of a settings table. Values are collected as JSON in `given`; turn that
// into the settings with settings_from_flags().
template <HasFields Config>
void add_setting_flags(CLI::App& command, std::shared_ptr<nlohmann::json> given) {
  *given = nlohmann::json::object();
  const Config defaults;
  for_each_field<Config>([&]<class Value>(const Field<Config, Value>& field) {
    const std::string key(field.name), flag = flag_name(field.name);
    std::string help(field.help);
    const auto value = value_to_json(defaults.*field.member);
    const auto initial = value.is_string() ? value.template get<std::string>() : value.dump();
    if (!field.old_name.empty()) add_old_name(command, flag_name(field.old_name), flag);
    if (!value.is_array() && !initial.empty()) help += " [" + initial + "]";
    if constexpr (std::is_same_v<Value, bool>) {
      command.add_flag_callback(
          flag, [given, key] { (*given)[key] = true; }, help);
    } else if constexpr (std::is_same_v<Value, std::vector<std::string>>) {
      // Each value as it is: a conversion to a vector knows lists and "{}".
      command
          .add_option(
              flag,
              [given, key](const CLI::results_t& texts) {
                (*given)[key] = texts;
                return true;
              },
              help)
          ->type_name("TEXT")
          ->expected(1)
          ->take_all();
    } else {
      command
          .add_option_function<std::string>(
              flag,
              [given, key](const std::string& text) {
                if constexpr (std::is_same_v<Value, std::string> || NamedEnum<Value>) {
                  (*given)[key] = text;
                } else {
                  const auto number = nlohmann::json::parse(text, nullptr, false);
                  (*given)[key] = number.is_number() ? number : nlohmann::json(text);
                }
              },
              help)
          ->type_name(std::is_integral_v<Value>         ? "N"
                      : std::is_floating_point_v<Value> ? "X"
                                                        : "TEXT");
    }
  });
}

// The settings of the flags that were given. Errors name the flag as it was typed.
template <HasFields Config>
Config settings_from_flags(const nlohmann::json& given) {
  try {
    return config_from_json<Config>(given, "");
  } catch (const ConfigError& error) {
    std::string message = error.what();
    for (const auto& item : given.items())
      if (message.starts_with(item.key() + ":"))
        message = flag_name(item.key()) + message.substr(item.key().size());
    throw ConfigError("", message);
  }
}

// Throws ConfigError for settings of samplers that were given, have a value that would change the
// text, and are not among `samplers`.
inline void refuse_idle_samplers(const nlohmann::json& given, const GenerateConfig& config) {
  const auto chain = config.sampler_chain();
  const auto settings = config_to_json(config), defaults = config_to_json(GenerateConfig());
  config.for_each_sampler([&]<class Sampler>(const Sampler& sampler) {
    if (std::find(chain.begin(), chain.end(), sampler.kName) != chain.end()) return;
    for_each_field<Sampler>([&](const auto& field) {
      const std::string name(field.name);
      if (given.contains(name) && settings[name] != defaults[name])
        throw ConfigError(flag_name(name), "has no effect: --samplers leaves out \"" +
                                               std::string(sampler.kName) + "\"");
    });
  });
  if (given.contains("penalty_decay") && config.penalty_decay != 1 && config.frequency_penalty == 0)
    throw ConfigError("--penalty-decay", "has no effect: it needs --frequency-penalty");
}

}  // namespace rwkvx
