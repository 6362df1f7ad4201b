#include "rwkvx/text/utf8.h"

namespace rwkvx {
namespace {

unsigned char byte_at(std::string_view text, std::size_t index) {
  return static_cast<unsigned char>(text[index]);
}

// What the first byte promises: the length of the character, and the range of the second byte,
// which is where overlong forms, surrogates and values beyond U+10FFFF show.
struct Lead {
  std::size_t length;
  unsigned char second_min, second_max;
};

Lead lead_of(unsigned char byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte < 0xF0) {
    const auto min = static_cast<unsigned char>(byte == 0xE0 ? 0xA0 : 0x80);
    const auto max = static_cast<unsigned char>(byte == 0xED ? 0x9F : 0xBF);
    return {3, min, max};
  }
  if (byte < 0xF5) {
    const auto min = static_cast<unsigned char>(byte == 0xF0 ? 0x90 : 0x80);
    const auto max = static_cast<unsigned char>(byte == 0xF4 ? 0x8F : 0xBF);
    return {4, min, max};
  }
  return {0, 0, 0};
}

// Bytes at the start of `text` that begin (or are) a character; `whole` says which.
std::size_t longest_start(std::string_view text, bool& whole) {
  whole = false;
  if (text.empty()) return 0;
  const Lead lead = lead_of(byte_at(text, 0));
  if (lead.length == 0) return 0;
  std::size_t good = 1;
  while (good < lead.length && good < text.size()) {
    const unsigned char next = byte_at(text, good);
    const bool fits =
        good == 1 ? lead.second_min <= next && next <= lead.second_max : (next & 0xC0) == 0x80;
    if (!fits) break;
    ++good;
  }
  whole = good == lead.length;
  return good;
}

}  // namespace

std::size_t utf8_character(std::string_view text) {
  bool whole = false;
  const std::size_t length = longest_start(text, whole);
  return whole ? length : 0;
}

std::int64_t count_invalid_utf8(std::string_view text) {
  std::int64_t invalid = 0;
  for (std::size_t place = 0; place < text.size();) {
    if (byte_at(text, place) < 0x80) {
      ++place;
      continue;
    }
    bool whole = false;
    const std::size_t length = longest_start(text.substr(place), whole);
    if (!whole) ++invalid;
    place += length == 0 ? 1 : length;
  }
  return invalid;
}

std::size_t complete_utf8(std::string_view text) {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const std::size_t place = text.size() - back;
    const unsigned char byte = byte_at(text, place);
    if ((byte & 0xC0) == 0x80) continue;  // look further back for the first byte
    bool whole = false;
    const std::size_t length = longest_start(text.substr(place), whole);
    return !whole && length == back ? place : text.size();
  }
  return text.size();
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    bool whole = false;
    const std::size_t length = longest_start(text, whole);
    if (whole)
      out += text.substr(0, length);
    else
      out += "\xef\xbf\xbd";
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

}  // namespace rwkvx
