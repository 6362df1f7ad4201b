// The texts of a file: a member of each line's JSON object, or the lines themselves.
#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rwkvx/base/json_line.h"
#include "rwkvx/base/text_file.h"

namespace rwkvx {

using JsonMembers = std::vector<std::pair<std::string, std::string>>;  // name, value as JSON

struct TextLine {
  JsonMembers members;  // as they are written there; of a plain line none
  std::string text;
  std::string where;  // FILE:LINE
};

// The text of a JSON string.
std::string json_string(std::string_view value);

// A line of the output, with its break: the members of the input's line, then the output's own.
std::string members_line(const JsonMembers& members, const JsonMembers& own);

class TextLines {
 public:
  enum class Kind { kJson, kPlain };
  // `own` are the members that the output has beside those of the line, which must not have them.
  // `name` is what messages call the file; empty: its path. Where `arrays`, a text may be an array
  // instead, as it is written; and a line that is an array stands for an object with this field.
  TextLines(const std::string& path, const std::string& name, Kind kind, std::string field,
            std::vector<std::string> own, bool arrays = false);
  const std::string& name() const { return name_; }
  // The next line that is not blank (of plain lines: the next line), or nothing at the end. Throws
  // DataError naming the line that is no object with this field.
  std::optional<TextLine> next();

 private:
  TextLine read_json(std::string_view text, const std::string& where);
  std::string name_, field_;
  Kind kind_;
  std::vector<std::string> own_;
  bool arrays_;
  std::shared_ptr<const TextFile> text_;
  std::ifstream file_;
  JsonLine json_;
  std::int64_t number_ = 0;
};

}  // namespace rwkvx
