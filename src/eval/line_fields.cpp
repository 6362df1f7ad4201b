#include "eval/line_fields.h"

#include "rwkvx/base/error.h"
#include "rwkvx/base/json_copy.h"
#include "rwkvx/base/nearest.h"

namespace rwkvx {

void read_json_line(std::string_view text, const std::string& where, JsonLine& line) {
  try {
    line.read(text);
  } catch (const JsonLineError& error) {
    throw DataError(where, std::string("not a JSON object: ") + error.what());
  }
}

std::string_view field_of(const JsonLine& line, const std::string& name, const std::string& where) {
  const auto value = line.find(name);
  if (value.empty())
    throw DataError(where, "no field \"" + name + "\"" + did_you_mean(name, line.names()));
  return value;
}

std::string text_of(std::string_view value, const std::string& name, const std::string& where) {
  if (json_kind(value) != JsonKind::kString)
    throw DataError(where,
                    "field \"" + name + "\": expected a string, got " + json_kind_name(value));
  std::string room;
  room.reserve(value.size());
  return std::string(json_text(value, room));
}

std::string id_of(const JsonLine& line) {
  const auto id = line.find("id");
  return id.empty() || json_kind(id) == JsonKind::kNull ? "" : json_copy(id);
}

}  // namespace rwkvx
