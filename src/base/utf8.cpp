#include "rwkvx/base/utf8.h"

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
        good == 1 ? lead.second_min <= next && next <= lead.second_max : continues_utf8(text[good]);
    if (!fits) break;
    ++good;
  }
  whole = good == lead.length;
  return good;
}

}  // namespace

void decode_utf8(std::string_view text, std::vector<std::uint32_t>& codes) {
  codes.clear();
  while (!text.empty()) {
    const unsigned first = byte_at(text, 0);
    std::uint32_t code = first;
    std::size_t length = 1;
    if (first >= 0x80) {
      bool whole = false;
      const std::size_t start = longest_start(text, whole);
      if (whole) {
        length = start;
        code = first & (0xFFU >> (length + 1));
        for (std::size_t i = 1; i < length; ++i) code = code << 6 | (byte_at(text, i) & 0x3FU);
      } else {
        code = kInvalidByte + first;
      }
    }
    codes.push_back(code);
    text.remove_prefix(length);
  }
}

void append_utf8(std::uint32_t code, std::string& text) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
  if (code >= kInvalidByte) {
    text += static_cast<char>(code - kInvalidByte);
  } else if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xC0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    text += static_cast<char>(0xE0 | code >> 12);
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xF0 | code >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

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
    if (continues_utf8(text[place])) continue;  // look further back for the first byte
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
