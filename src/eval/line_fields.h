// Fields of JSON lines, with errors that name file, line and field.
#pragma once

#include <string>
#include <string_view>

#include "rwkvx/base/json_line.h"

namespace rwkvx {

// Each throws DataError with `where` (FILE:LINE).
void read_json_line(std::string_view text, const std::string& where, JsonLine& line);
// The value of a field as it is written.
std::string_view field_of(const JsonLine& line, const std::string& name, const std::string& where);
// The text of a value; `name` is what messages call it.
std::string text_of(std::string_view value, const std::string& name, const std::string& where);
// The value of the field "id" as JSON, "" where there is none.
std::string id_of(const JsonLine& line);

}  // namespace rwkvx
