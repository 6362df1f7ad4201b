#include "rwkvx/base/json_line.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "rwkvx/base/utf8.h"

namespace rwkvx {
namespace {

// Deeper values are refused, since reading them takes stack.
constexpr int kDeepest = 256;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  [[noreturn]] void fail(const std::string& wanted) const {
    std::string found = "the end of the line";
    if (at_ < text_.size()) {
      const char c = text_[at_];
      found = c > ' ' && c < 127 ? std::string("'") + c + "'"
                                 : "byte " + std::to_string(static_cast<unsigned char>(c));
    }
    throw JsonLineError(at_ + 1, "expected " + wanted + ", got " + found);
  }
  bool done() const { return at_ == text_.size(); }
  char peek() const { return done() ? '\0' : text_[at_]; }
  bool take(char c) {
    if (done() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void blanks() {
    while (!done() &&
           (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\r' || text_[at_] == '\n'))
      ++at_;
  }
  std::string_view string() {
    const auto begin = at_;
    if (!take('"')) fail("a string");
    for (;;) {
      const auto* quote =
          static_cast<const char*>(std::memchr(text_.data() + at_, '"', text_.size() - at_));
      if (quote == nullptr) {
        at_ = text_.size();
        fail("the closing '\"' of a string");
      }
      const auto end = static_cast<std::size_t>(quote - text_.data());
      while (at_ < end) {
        const auto* slash =
            static_cast<const char*>(std::memchr(text_.data() + at_, '\\', end - at_));
        at_ = slash == nullptr ? end : static_cast<std::size_t>(slash - text_.data());
        if (slash != nullptr) escape();
      }
      if (at_ == end) {  // else the quote was part of an escape
        ++at_;
        return text_.substr(begin, at_ - begin);
      }
    }
  }
  std::string_view value(int depth) {
    const auto begin = at_;
    switch (peek()) {
      case '"':
        return string();
      case '{':
        members(depth, [](std::string_view, std::string_view) {});
        break;
      case '[':
        items(depth, [](std::string_view) {});
        break;
      case 't':
        word("true");
        break;
      case 'f':
        word("false");
        break;
      case 'n':
        word("null");
        break;
      default:
        number();
    }
    return text_.substr(begin, at_ - begin);
  }
  template <class Visit>
  void members(int depth, const Visit& visit) {
    if (!take('{')) fail("an object that begins with '{'");
    if (depth >= kDeepest) fail("values nested less deeply");
    blanks();
    if (take('}')) return;
    for (;;) {
      blanks();
      const auto name = string();
      blanks();
      if (!take(':')) fail("':' after a name");
      blanks();
      visit(name, value(depth + 1));
      blanks();
      if (take('}')) return;
      if (!take(',')) fail("',' or '}'");
    }
  }
  template <class Visit>
  void items(int depth, const Visit& visit) {
    if (!take('[')) fail("an array");
    if (depth >= kDeepest) fail("values nested less deeply");
    blanks();
    if (take(']')) return;
    for (;;) {
      blanks();
      visit(value(depth + 1));
      blanks();
      if (take(']')) return;
      if (!take(',')) fail("',' or ']'");
    }
  }

 private:
  void escape() {
    ++at_;
    const char c = peek();
    if (c == 'u') {
      ++at_;
      for (int i = 0; i < 4; ++i, ++at_)
        if (hex_digit(peek()) < 0) fail("four hexadecimal digits after \\u");
      return;
    }
    if (c == '\0' || std::strchr("\"\\/bfnrt", c) == nullptr) fail("an escape that JSON knows");
    ++at_;
  }
  void word(std::string_view wanted) {
    if (!text_.substr(at_).starts_with(wanted)) fail("a value");
    at_ += wanted.size();
  }
  void digits() {
    if (peek() < '0' || peek() > '9') fail("a digit");
    while (peek() >= '0' && peek() <= '9') ++at_;
  }
  void number() {
    if (peek() != '-' && (peek() < '0' || peek() > '9')) fail("a value");
    take('-');
    if (!take('0')) digits();
    if (take('.')) digits();
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      digits();
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

// The \uXXXX at the start of `text`, or -1.
std::int32_t unicode_escape(std::string_view text) {
  if (text.size() < 6 || text[0] != '\\' || text[1] != 'u') return -1;
  std::int32_t code = 0;
  for (int i = 2; i < 6; ++i) code = code * 16 + hex_digit(text[static_cast<std::size_t>(i)]);
  return code;
}

}  // namespace

void JsonLine::read(std::string_view line) {
  members_.clear();
  Reader reader(line);
  reader.blanks();
  reader.members(0, [&](std::string_view name, std::string_view value) {
    members_.emplace_back(name, value);
  });
  reader.blanks();
  if (!reader.done()) reader.fail("nothing after the object");
}

bool is_json(std::string_view text) {
  try {
    Reader reader(text);
    reader.blanks();
    reader.value(0);
    reader.blanks();
    return reader.done();
  } catch (const JsonLineError&) {
    return false;
  }
}

std::string_view JsonLine::find(std::string_view name) const {
  for (auto member = members_.rbegin(); member != members_.rend(); ++member) {
    const auto written = member->first.substr(1, member->first.size() - 2);
    if (written == name) return member->second;
    if (written.find('\\') == written.npos) continue;
    std::string room;
    if (json_text(member->first, room) == name) return member->second;
  }
  return {};
}

std::vector<std::string> JsonLine::names() const {
  std::vector<std::string> names;
  for (const auto& member : members_) {
    std::string room;
    names.emplace_back(json_text(member.first, room));
  }
  return names;
}

JsonKind json_kind(std::string_view value) {
  switch (value.front()) {
    case '"':
      return JsonKind::kString;
    case '[':
      return JsonKind::kArray;
    case '{':
      return JsonKind::kObject;
    case 't':
      return JsonKind::kTrue;
    case 'f':
      return JsonKind::kFalse;
    case 'n':
      return JsonKind::kNull;
    default:
      return JsonKind::kNumber;
  }
}

std::string json_kind_name(std::string_view value) {
  switch (json_kind(value)) {
    case JsonKind::kString:
      return "a string";
    case JsonKind::kArray:
      return "an array";
    case JsonKind::kObject:
      return "an object";
    case JsonKind::kNumber:
      return "a number";
    default:
      return std::string(value);
  }
}

std::string_view json_text(std::string_view value, std::string& room) {
  value = value.substr(1, value.size() - 2);
  if (value.find('\\') == value.npos) return value;
  const auto begin = room.size();
  while (!value.empty()) {
    const auto slash = std::min(value.find('\\'), value.size());
    room += value.substr(0, slash);
    value.remove_prefix(slash);
    if (value.empty()) break;
    if (value[1] == 'u') {
      auto code = unicode_escape(value);
      value.remove_prefix(6);
      const auto low = unicode_escape(value);
      if (code >= 0xd800 && code < 0xdc00 && low >= 0xdc00 && low < 0xe000) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        value.remove_prefix(6);
      }
      append_utf8(static_cast<std::uint32_t>(code), room);
      continue;
    }
    switch (value[1]) {
      case 'b':
        room += '\b';
        break;
      case 'f':
        room += '\f';
        break;
      case 'n':
        room += '\n';
        break;
      case 'r':
        room += '\r';
        break;
      case 't':
        room += '\t';
        break;
      default:
        room += value[1];
    }
    value.remove_prefix(2);
  }
  return std::string_view(room).substr(begin);
}

void json_items(std::string_view value, std::vector<std::string_view>& items) {
  items.clear();
  Reader(value).items(0, [&](std::string_view item) { items.push_back(item); });
}

}  // namespace rwkvx
