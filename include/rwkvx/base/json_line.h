// JSON objects on one line each, read without building a tree: only what is asked for is decoded.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rwkvx {

// What is wrong with a line, and at which byte (from 1).
class JsonLineError : public std::runtime_error {
 public:
  JsonLineError(std::size_t column, const std::string& what)
      : std::runtime_error("column " + std::to_string(column) + ": " + what) {}
};

// The members of an object, checked to be JSON to the end of the line. Two leniencies, so that text
// cut from anywhere can be scored: strings may hold invalid UTF-8 and control characters, which are
// kept as bytes. Values are views of the line as it was written; of several members with one name
// the last counts.
class JsonLine {
 public:
  // Reads a line in place of the one before. Throws JsonLineError.
  void read(std::string_view line);
  // The value of a member as it is written, without blanks around it; empty where there is none.
  std::string_view find(std::string_view name) const;
  std::vector<std::string> names() const;
  // Name and value of each member as they are written, names with their quotes.
  const std::vector<std::pair<std::string_view, std::string_view>>& members() const {
    return members_;
  }

 private:
  std::vector<std::pair<std::string_view, std::string_view>> members_;  // names are still escaped
};

// Whether a text is one JSON value, read with the same leniencies, blanks around it allowed.
bool is_json(std::string_view text);

enum class JsonKind { kString, kNumber, kArray, kObject, kTrue, kFalse, kNull };
// Of a value that JsonLine found; it must not be empty.
JsonKind json_kind(std::string_view value);
// "a string", "null", "a number" and so on.
std::string json_kind_name(std::string_view value);

// The text of a string value. Without escapes it is a view of the value; otherwise it is decoded to
// the end of `room`, whose capacity must have value.size() left so that earlier views stay valid.
// A lone surrogate becomes the three bytes UTF-8 would have for it (and counts as invalid UTF-8).
std::string_view json_text(std::string_view value, std::string& room);
// The values in an array value.
void json_items(std::string_view value, std::vector<std::string_view>& items);

}  // namespace rwkvx
