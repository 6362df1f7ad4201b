#include "generate/text_lines.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "rwkvx/base/error.h"
#include "rwkvx/base/json_copy.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/utf8.h"

namespace rwkvx {

std::string json_string(std::string_view value) {
  std::string room;
  room.reserve(value.size());
  return std::string(json_text(value, room));
}

std::string members_line(const JsonMembers& members, const JsonMembers& own) {
  std::string text = "{";
  for (const auto* list : {&members, &own})
    for (const auto& [name, value] : *list)
      text += (text.size() > 1 ? "," : "") + json_dump(nlohmann::json(name)) + ":" + value;
  return replace_invalid_utf8(text) + "}\n";
}

TextLines::TextLines(const std::string& path, const std::string& name, Kind kind, std::string field,
                     std::vector<std::string> own, bool arrays)
    : name_(name.empty() ? path : name),
      field_(std::move(field)),
      kind_(kind),
      own_(std::move(own)),
      arrays_(arrays),
      text_(open_lines(path)),
      file_(text_->path(), std::ios::binary) {
  if (!file_) throw FileError(name_, std::string("cannot open: ") + std::strerror(errno));
}

std::optional<TextLine> TextLines::next() {
  for (std::string text; std::getline(file_, text);) {
    auto where = name_ + ":" + std::to_string(++number_);
    if (number_ == 1 && text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
    if (kind_ == Kind::kPlain) {
      if (text.ends_with('\r')) text.pop_back();
      return TextLine{{}, std::move(text), std::move(where)};
    }
    if (text.find_first_not_of(" \t\r") != std::string::npos) return read_json(text, where);
  }
  if (file_.bad()) throw FileError(name_, "cannot be read");
  return std::nullopt;
}

TextLine TextLines::read_json(std::string_view text, const std::string& where) {
  static constexpr std::string_view kBlank = " \t\r";
  const auto begin = text.find_first_not_of(kBlank), end = text.find_last_not_of(kBlank) + 1;
  if (arrays_ && text[begin] == '[' && is_json(text)) {
    const auto array = json_copy(text.substr(begin, end - begin));
    return {{{field_, array}}, array, where};
  }
  try {
    json_.read(text);
  } catch (const JsonLineError& error) {
    throw DataError(where, is_json(text) ? "expected a JSON object"
                                         : "is not valid JSON: " + std::string(error.what()));
  }
  const auto value = json_.find(field_);
  if (value.empty()) throw DataError(where, "has no field \"" + field_ + "\"");
  const auto kind = json_kind(value);
  const bool array = arrays_ && kind == JsonKind::kArray;
  if (kind != JsonKind::kString && !array)
    throw DataError(where, "field \"" + field_ + "\" must be a string" +
                               (arrays_ ? " or an array of ids" : ""));
  for (const auto& name : own_)
    if (!json_.find(name).empty())
      throw DataError(where, "has a field \"" + name +
                                 "\", which the output writes itself; rename it in the input");
  TextLine line{{}, array ? json_copy(value) : json_string(value), where};
  for (const auto& name : json_.names()) {
    const auto same = [&](const auto& member) { return member.first == name; };
    if (std::none_of(line.members.begin(), line.members.end(), same))
      line.members.emplace_back(name, json_copy(json_.find(name)));
  }
  return line;
}

}  // namespace rwkvx
