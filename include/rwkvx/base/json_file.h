// JSON that somebody else may have written: bounded in depth, nothing about its types assumed.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace rwkvx {

// Deeper values are refused: whoever walks, copies or writes them takes stack for each level.
inline constexpr std::size_t kDeepestJson = 256;

// Whether no bracket of the text lies deeper than that, be it valid JSON or not.
bool json_is_shallow(std::string_view text);

// One JSON value. Throws DataError with `where` (FILE or FILE:LINE) for text that is not valid JSON
// or nests deeper than kDeepestJson.
nlohmann::json parse_foreign_json(std::string_view text, const std::string& where);
// The same, or null where parse_foreign_json() would throw.
nlohmann::json parse_json_or_null(std::string_view text);

// A value as text, for messages: at most 60 bytes of it, on one line.
std::string json_shown(const nlohmann::json& value);

// A value as JSON text; what is not UTF-8 in it becomes U+FFFD, as JSON has no other bytes.
template <class Json>
std::string json_dump(const Json& value, int indent = -1) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

// The members of an object, with their types checked. Each throws DataError with `where`, naming
// the member, where the object has none of this name and type.
class JsonObject {
 public:
  // Throws DataError where `value` is no object. It must outlive this.
  JsonObject(const nlohmann::json& value, std::string where);
  bool has(const std::string& name) const { return value_.contains(name); }
  const nlohmann::json& member(const std::string& name) const;
  JsonObject object(const std::string& name) const;
  const nlohmann::json& array(const std::string& name) const;
  std::string text(const std::string& name) const;
  std::int64_t integer(const std::string& name) const;
  double number(const std::string& name) const;
  bool flag(const std::string& name) const;

 private:
  [[noreturn]] void wrong(const std::string& name, const char* expected) const;
  const nlohmann::json& value_;
  std::string where_;
};

}  // namespace rwkvx
