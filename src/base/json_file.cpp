#include "rwkvx/base/json_file.h"

#include <limits>
#include <utility>

#include "rwkvx/base/error.h"
#include "rwkvx/base/utf8.h"

namespace rwkvx {

bool json_is_shallow(std::string_view text) {
  std::size_t depth = 0;
  bool inside = false;  // a string
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (inside) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        inside = false;
    } else if (c == '"') {
      inside = true;
    } else if (c == '/') {  // a comment, where the reader allows them
      const bool line = text.substr(i).starts_with("//"), block = text.substr(i).starts_with("/*");
      if (!line && !block) continue;
      const auto end = line ? text.find('\n', i) : text.find("*/", i + 2);
      i = end == std::string_view::npos ? text.size() : end + (block ? 1 : 0);
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepestJson) return false;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return true;
}

nlohmann::json parse_foreign_json(std::string_view text, const std::string& where) {
  if (!json_is_shallow(text))
    throw DataError(where, "expected JSON nested at most " + std::to_string(kDeepestJson) +
                               " levels deep, got deeper brackets");
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    throw DataError(where, "is not valid JSON (byte " + std::to_string(error.byte) + ")");
  } catch (const nlohmann::json::exception&) {
    throw DataError(where, "holds a number that is out of range");
  }
}

nlohmann::json parse_json_or_null(std::string_view text) {
  if (!json_is_shallow(text)) return nullptr;
  auto value = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  return value.is_discarded() ? nlohmann::json() : value;
}

std::string json_shown(const nlohmann::json& value) {
  constexpr std::size_t kShown = 60;
  std::string shown = json_dump(value);
  if (shown.size() <= kShown) return shown;
  std::size_t end = kShown;  // not inside a character
  while (continues_utf8(shown[end])) --end;
  return shown.substr(0, end) + "…";
}

JsonObject::JsonObject(const nlohmann::json& value, std::string where)
    : value_(value), where_(std::move(where)) {
  if (!value.is_object())
    throw DataError(where_, "expected a JSON object, got " + json_shown(value));
}

void JsonObject::wrong(const std::string& name, const char* expected) const {
  throw DataError(
      where_, "field \"" + name + "\": expected " + expected + ", got " + json_shown(value_[name]));
}

const nlohmann::json& JsonObject::member(const std::string& name) const {
  const auto found = value_.find(name);
  if (found == value_.end()) throw DataError(where_, "has no field \"" + name + "\"");
  return *found;
}

JsonObject JsonObject::object(const std::string& name) const {
  const auto& found = member(name);
  if (!found.is_object()) wrong(name, "an object");
  return {found, where_ + ": " + name};
}

const nlohmann::json& JsonObject::array(const std::string& name) const {
  const auto& found = member(name);
  if (!found.is_array()) wrong(name, "an array");
  return found;
}

std::string JsonObject::text(const std::string& name) const {
  const auto& found = member(name);
  if (!found.is_string()) wrong(name, "a string");
  return found.get<std::string>();
}

std::int64_t JsonObject::integer(const std::string& name) const {
  const auto& found = member(name);
  if (!found.is_number_integer() ||
      (found.is_number_unsigned() &&
       found.get<std::uint64_t>() >
           static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())))
    wrong(name, "a whole number below 2^63");
  return found.get<std::int64_t>();
}

double JsonObject::number(const std::string& name) const {
  const auto& found = member(name);
  if (!found.is_number()) wrong(name, "a number");
  return found.get<double>();
}

bool JsonObject::flag(const std::string& name) const {
  const auto& found = member(name);
  if (!found.is_boolean()) wrong(name, "true or false");
  return found.get<bool>();
}

}  // namespace rwkvx
