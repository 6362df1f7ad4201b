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

// One row: numbers carry an inclusive range; enums are texts of theirs; sections (a member that has
// fields() of its own) carry only their name and help.
template <class Config, class Value>
struct Field {
  std::string_view name;
  Value Config::*member;
  std::string_view help;
  double min = std::numeric_limits<double>::lowest();
  double max = std::numeric_limits<double>::max();
  std::string_view old_name = "";  // still read, with a notice
  bool added = false;              // hashes made before this setting existed stay as they were
};

// A row whose setting had another name before.
template <class Config, class Value>
constexpr Field<Config, Value> renamed(std::string_view old_name, Field<Config, Value> field) {
  field.old_name = old_name;
  return field;
}
// A row that settings_key() leaves out where it has its default.
template <class Config, class Value>
constexpr Field<Config, Value> added(Field<Config, Value> field) {
  field.added = true;
  return field;
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
  std::string type;     // "integer", "number", "flag", "text", "list of texts", "list of numbers"
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
// A list, or a single text: "" is the empty list. Throws, too, where one of a list is "".
std::vector<std::string> read_texts(const nlohmann::json& json, const std::string& path);
std::vector<double> read_numbers(const nlohmann::json& json, const std::string& path);
[[noreturn]] void refuse_no_settings(const nlohmann::json& json, const std::string& where);

// Reads JSON with // comments from a file. Throws ConfigError naming file, line and column, also
// for values nested deeper than kDeepestJson.
nlohmann::json read_json_file(const std::string& path);
// The same for text that came from `where`.
nlohmann::json parse_json(std::string_view text, const std::string& where);

// Says once per process that the setting or option `old_name`, a whole path, is called `name`.
void note_old_name(const std::string& old_name, std::string_view name);

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

enum class OldNames { kNotice, kSilent };

// The path of a setting: "c.json: model.n_layer".
inline std::string setting_path(const std::string& where, std::string_view name) {
  return where + (where.empty() || where.ends_with(" ") ? "" : ".") + std::string(name);
}

// Gives the settings in `json` that stand there under an old name their name, sections included.
// Throws ConfigError where a setting stands there under both, unless `replace`, where the old
// name's value is taken.
template <HasFields Config>
void use_current_names(nlohmann::json& json, const std::string& where,
                       OldNames old_names = OldNames::kNotice, bool replace = false) {
  if (!json.is_object()) return;
  for_each_field<Config>([&]<class Value>(const Field<Config, Value>& field) {
    const std::string name(field.name), old_name(field.old_name);
    if (!old_name.empty() && json.contains(old_name)) {
      const auto path = setting_path(where, old_name);
      if (json.contains(name) && !replace)
        throw ConfigError(
            path, "is the old name of " + name + ", which is set as well; remove one of the two");
      if (old_names == OldNames::kNotice) note_old_name(path, name);
      json[name] = json[old_name];
      json.erase(old_name);
    }
    if constexpr (HasFields<Value>)
      if (json.contains(name))
        use_current_names<Value>(json[name], setting_path(where, name), old_names, replace);
  });
}

// Reads a settings struct from JSON; absent keys keep their defaults. Throws ConfigError for
// unknown keys (naming the nearest), wrong types and values out of range, then for what check()
// refuses. A checkpoint's settings are read with OldNames::kSilent.
template <HasFields Config>
Config config_from_json(nlohmann::json json, const std::string& where,
                        OldNames old_names = OldNames::kNotice) {
  Config config;
  if (!json.is_object()) refuse_no_settings(json, where);
  use_current_names<Config>(json, where, old_names);
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
    const auto path = setting_path(where, name);
    const auto& value = json[name];
    auto& member = config.*field.member;
    if constexpr (HasFields<Value>) {
      member = config_from_json<Value>(value, path, old_names);
    } else if constexpr (NamedEnum<Value>) {
      member = read_enum<Value>(value, path);
    } else if constexpr (std::is_same_v<Value, bool>) {
      member = read_flag(value, path);
    } else if constexpr (std::is_same_v<Value, std::string>) {
      member = read_text(value, path, "");
    } else if constexpr (std::is_same_v<Value, std::vector<std::string>>) {
      member = read_texts(value, path);
    } else if constexpr (std::is_same_v<Value, std::vector<double>>) {
      member = read_numbers(value, path);
    } else {
      if constexpr (std::is_integral_v<Value>)
        member = read_integer(value, path);
      else
        member = read_number(value, path);
      const auto number = static_cast<double>(member);
      if (!(field.min <= number && number <= field.max))  // written so that NaN fails too
        throw ConfigError(path,
                          "expected " + range_text(field.min, field.max) + ", got " + value.dump());
    }
  });
  if constexpr (requires { config.check(where); }) config.check(where);
  return config;
}

// Applies "a.b=value" for each assignment to the JSON read from `where`; the last one counts, and
// one with an old name replaces the setting's value.
template <HasFields Config>
void set_by_paths(nlohmann::json& json, const std::vector<std::string>& assignments,
                  const std::string& where) {
  use_current_names<Config>(json, where);
  for (const auto& assignment : assignments) {
    set_by_path(json, assignment);
    use_current_names<Config>(json, "--set ", OldNames::kNotice, /*replace=*/true);
  }
}

// What a setting's value is in JSON.
template <class Value>
nlohmann::ordered_json value_to_json(const Value& value) {
  if constexpr (NamedEnum<Value>)
    return enum_name(value);
  else
    return value;
}

template <HasFields Config>
nlohmann::ordered_json config_to_json(const Config& config) {
  auto json = nlohmann::ordered_json::object();
  for_each_field<Config>([&]<class Value>(const Field<Config, Value>& field) {
    if constexpr (HasFields<Value>)
      json[std::string(field.name)] = config_to_json(config.*field.member);
    else
      json[std::string(field.name)] = value_to_json(config.*field.member);
  });
  return json;
}

// The settings as hashes take them, so that results stored under a hash are found again: each under
// its first name, those that were added later only where they are not at their default.
template <HasFields Config>
nlohmann::ordered_json settings_key(const Config& config) {
  auto json = nlohmann::ordered_json::object();
  const Config defaults;
  for_each_field<Config>([&]<class Value>(const Field<Config, Value>& field) {
    const std::string name(field.old_name.empty() ? field.name : field.old_name);
    if constexpr (HasFields<Value>) {
      json[name] = settings_key(config.*field.member);
    } else {
      const auto value = value_to_json(config.*field.member);
      if (!field.added || value != value_to_json(defaults.*field.member)) json[name] = value;
    }
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
    } else {
      FieldInfo row{path, "text", value_to_json(defaults.*field.member).dump(), "",
                    std::string(field.help)};
      if constexpr (std::is_same_v<Value, bool>) {
        row.type = "flag";
        row.allowed = "true or false";
      } else if constexpr (std::is_same_v<Value, std::vector<std::string>>) {
        row.type = "list of texts";
      } else if constexpr (std::is_same_v<Value, std::vector<double>>) {
        row.type = "list of numbers";
      } else if constexpr (NamedEnum<Value>) {
        row.allowed = choices_text(enum_names(Value{}));
      } else if constexpr (std::is_arithmetic_v<Value>) {
        row.type = std::is_integral_v<Value> ? "integer" : "number";
        row.allowed = range_text(field.min, field.max);
      }
      rows.push_back(std::move(row));
    }
  });
  return rows;
}

// The functions above for a settings struct that many files use: compiled once, in its .cpp with
// RWKVX_SETTINGS_FUNCTIONS(, Config), and declared beside it with `extern`.
#define RWKVX_SETTINGS_FUNCTIONS(EXTERN, Config)                                                 \
  EXTERN template void use_current_names<Config>(nlohmann::json&, const std::string&, OldNames,  \
                                                 bool);                                          \
  EXTERN template Config config_from_json<Config>(nlohmann::json, const std::string&, OldNames); \
  EXTERN template void set_by_paths<Config>(nlohmann::json&, const std::vector<std::string>&,    \
                                            const std::string&);                                 \
  EXTERN template nlohmann::ordered_json config_to_json<Config>(const Config&);                  \
  EXTERN template nlohmann::ordered_json settings_key<Config>(const Config&);                    \
  EXTERN template std::vector<FieldInfo> describe_fields<Config>(const std::string&);

}  // namespace rwkvx
