#include "cli/settings.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "rwkvx/generate/generator.h"

namespace rwkvx {

using nlohmann::json;

std::string flag_name(std::string_view field) {
  std::string name = "--";
  for (const char c : field) name += c == '_' ? '-' : c;
  return name;
}

void add_setting_flag(CLI::App& command, const FieldInfo& setting, json& given) {
  const std::string flag = flag_name(setting.path), key = setting.path;
  if (setting.type == "flag") {
    command.add_flag_callback(
        flag, [&given, key] { given[key] = true; }, setting.help);
    return;
  }
  if (setting.type == "list of texts") {
    // Each value as it is: a conversion to a vector knows lists and "{}".
    command
        .add_option(
            flag,
            [&given, key](const CLI::results_t& texts) {
              given[key] = texts;
              return true;
            },
            setting.help)
        ->type_name("TEXT")
        ->expected(1)
        ->take_all();
    return;
  }
  const bool text = setting.type == "text";
  const auto initial = text ? json::parse(setting.initial).get<std::string>() : setting.initial;
  command
      .add_option_function<std::string>(
          flag,
          [&given, key, text](const std::string& value) {
            const auto number = json::parse(value, nullptr, false);
            given[key] = text || !number.is_number() ? json(value) : number;
          },
          setting.help + (initial.empty() ? "" : " [" + initial + "]"))
      ->type_name(setting.type == "integer"  ? "N"
                  : setting.type == "number" ? "X"
                                             : "TEXT");
}

ConfigError with_flag_name(const ConfigError& error, const std::vector<std::string>& settings) {
  std::string message = error.what();
  for (const auto& name : settings)
    if (message.starts_with(name + ":")) message = flag_name(name) + message.substr(name.size());
  return ConfigError("", message);
}

void refuse_idle_samplers(const json& given, const GenerateConfig& config) {
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

void check_generation(const Generator& generator, const GenerateConfig& config) {
  try {
    generator.check(config);
  } catch (const ConfigError& error) {
    throw with_flag_name(error, field_names<GenerateConfig>());
  }
}

}  // namespace rwkvx
