// Settings tables: each setting of a struct is written once, as a row of `fields()`. From the rows
// come reading and writing JSON, refusing unknown keys, bounds, `--set`, help and the docs' tables.
#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/nearest.h"

namespace rwkvx {

// An enum whose values have names: beside it stands
//   constexpr std::string_view enum_names(Gate) { return "diag|one|scalar"; }
// with the names in the order of the enumerators. They are the texts in JSON, flags, help and docs.
template <class Enum>
concept NamedEnum = std::is_enum_v<Enum> && requires(Enum value) {
  { enum_names(value) } -> std::convertible_to<std::string_view>;
};

// One row: numbers carry an inclusive range; texts may carry "a|b|c", the only values allowed;
// enums are texts of theirs; sections (a member that has fields() of its own) carry only their name
// and help.
template <class Config, class Value>
struct Field {
  std::string_view name;
  Value Config::*member;
  std::string_view help;
  double min = std::numeric_limits<double>::lowest();
  double max = std::numeric_limits<double>::max();
  std::string_view choices = "";
};

template <class Config>
constexpr Field<Config, std::string> choice(std::string_view name, std::string Config::*member,
                                            std::string_view help, std::string_view choices) {
  return {name, member, help, 0, 0, choices};
}

template <class Config>
concept HasFields = requires {
  Config::fields();
};

template <class Config, class Visit>
constexpr void for_each_field(const Visit& visit) {
  std::apply([&](const auto&... field) { (visit(field), ...); }, Config::fields());
}

// A row as text, for help, documents and "did you mean".
struct FieldInfo {
  std::string path;     // "train.learning_rate"
  std::string type;     // "integer", "number", "flag", "text", "list of texts"
  std::string initial;  // the default, as JSON
  std::string allowed;  // ">= 1", "0 to 1", "a, b or c", "" for anything
  std::string help;
};

std::vector<std::string> split_choices(std::string_view choices);
// The name of the index-th of "a|b|c", and the index of a name (-1: none).
std::string_view choice_at(std::string_view choices, std::size_t index);
std::ptrdiff_t choice_index(std::string_view choices, std::string_view name);
std::string range_text(double min, double max);
std::string choices_text(std::string_view choices);
// Each throws ConfigError naming `path` where the JSON value has another type.
std::int64_t read_integer(const nlohmann::json& json, const std::string& path);
double read_number(const nlohmann::json& json, const std::string& path);
bool read_flag(const nlohmann::json& json, const std::string& path);
std::string read_text(const nlohmann::json& json, const std::string& path,
                      std::string_view choices);
std::vector<std::string> read_texts(const nlohmann::json& json, const std::string& path);
[[noreturn]] void refuse_no_settings(const nlohmann::json& json, const std::string& where);

// Reads JSON with // comments from a file. Throws ConfigError naming file, line and column, also
// for values nested deeper than kDeepestJson.
nlohmann::json read_json_file(const std::string& path);
// The same for text that came from `where`.
nlohmann::json parse_json(std::string_view text, const std::string& where);

// Applies "a.b=value" to JSON. The value is JSON where it parses as such, else a text. Throws
// ConfigError where the assignment has no '=' or a part of the path is not a section.
void set_by_path(nlohmann::json& json, const std::string& assignment);

// "diag".
template <NamedEnum Enum>
std::string enum_name(Enum value) {
  return std::string(choice_at(enum_names(value), static_cast<std::size_t>(value)));
}
// Throws ConfigError naming `where` for a text that is no name.
template <NamedEnum Enum>
Enum read_enum(const nlohmann::json& json, const std::string& where) {
  const auto names = enum_names(Enum{});
  return static_cast<Enum>(choice_index(names, read_text(json, where, names)));
}

template <class Config>
std::vector<std::string> field_names() {
  std::vector<std::string> names;
  for_each_field<Config>([&](const auto& field) { names.emplace_back(field.name); });
  return names;
}

// Reads a settings struct from JSON; absent keys keep their defaults. Throws ConfigError for
// unknown keys (naming the nearest), wrong types and values out of range, then for what check()
// refuses.
template <HasFields Config>
Config config_from_json(const nlohmann::json& json, const std::string& where) {
  Config config;
  if (!json.is_object()) refuse_no_settings(json, where);
  for (const auto& item : json.items()) {
    const auto names = field_names<Config>();
    bool known = false;
    for (const auto& name : names) known = known || name == item.key();
    if (!known)
      throw ConfigError(where,
                        "unknown key \"" + item.key() + "\"" + did_you_mean(item.key(), names));
  }
  for_each_field<Config>([&]<class Value>(const Field<Config, Value>& field) {
    const std::string name(field.name);
    if (!json.contains(name)) return;
    const std::string path = where + (where.empty() || where.ends_with(": ") ? "" : ".") + name;
    const auto& value = json[name];
    auto& member = config.*field.member;
    if constexpr (HasFields<Value>) {
      member = config_from_json<Value>(value, path);
    } else if constexpr (NamedEnum<Value>) {
      member = read_enum<Value>(value, path);
    } else if constexpr (std::is_same_v<Value, bool>) {
      member = read_flag(value, path);
    } else if constexpr (std::is_same_v<Value, std::string>) {
      member = read_text(value, path, field.choices);
    } else if constexpr (std::is_same_v<Value, std::vector<std::string>>) {
      member = read_texts(value, path);
    } else {
      if constexpr (std::is_integral_v<Value>)
        member = read_integer(value, path);
      else
        member = read_number(value, path);
      const auto number = static_cast<double>(member);
      if (!(field.min <= number && number <= field.max))  // written so that NaN fails too
        throw ConfigError(
            path, value.dump() + " is out of range, wanted " + range_text(field.min, field.max));
    }
  });
  if constexpr (requires { config.check(where); }) config.check(where);
  return config;
}

template <HasFields Config>
nlohmann::ordered_json config_to_json(const Config& config) {
  auto json = nlohmann::ordered_json::object();
  for_each_field<Config>([&]<class Value>(const Field<Config, Value>& field) {
    if constexpr (HasFields<Value>)
      json[std::string(field.name)] = config_to_json(config.*field.member);
    else if constexpr (NamedEnum<Value>)
      json[std::string(field.name)] = enum_name(config.*field.member);
    else
      json[std::string(field.name)] = config.*field.member;
  });
  return json;
}

// Every row of a settings struct, sections unfolded, in the order of the tables.
template <HasFields Config>
std::vector<FieldInfo> describe_fields(const std::string& prefix = "") {
  std::vector<FieldInfo> rows;
  const Config defaults;
  for_each_field<Config>([&]<class Value>(const Field<Config, Value>& field) {
    const std::string path = prefix + std::string(field.name);
    if constexpr (HasFields<Value>) {
      for (auto& row : describe_fields<Value>(path + ".")) rows.push_back(std::move(row));
    } else if constexpr (NamedEnum<Value>) {
      rows.push_back({path, "text", nlohmann::json(enum_name(defaults.*field.member)).dump(),
                      choices_text(enum_names(Value{})), std::string(field.help)});
    } else {
      FieldInfo row{path, "text", nlohmann::json(defaults.*field.member).dump(),
                    choices_text(field.choices), std::string(field.help)};
      if constexpr (std::is_same_v<Value, bool>) {
        row.type = "flag";
        row.allowed = "true or false";
      } else if constexpr (std::is_same_v<Value, std::vector<std::string>>) {
        row.type = "list of texts";
      } else if constexpr (std::is_arithmetic_v<Value>) {
        row.type = std::is_integral_v<Value> ? "integer" : "number";
        row.allowed = range_text(field.min, field.max);
      }
      rows.push_back(std::move(row));
    }
  });
  return rows;
}

}  // namespace rwkvx
