// UTF-8: characters, code points, and bytes that are neither.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace rwkvx {

// Whether a byte continues a character that an earlier byte began.
constexpr bool continues_utf8(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

// Code points from here on stand for bytes that are not UTF-8, one for each.
inline constexpr std::uint32_t kInvalidByte = 0x110000;

// The code points of a text. Every byte that is not part of a well-formed character becomes
// kInvalidByte + the byte.
void decode_utf8(std::string_view text, std::vector<std::uint32_t>& codes);
// Appends a code point as UTF-8, or the byte it stands for.
void append_utf8(std::uint32_t code, std::string& text);

// Bytes of the well-formed character at the start of `text` (1 to 4), 0 where there is none (empty,
// ill-formed, cut short, overlong, a surrogate or beyond U+10FFFF).
std::size_t utf8_character(std::string_view text);

// Ill-formed sequences in `text`, counted as Unicode recommends for replacement: each longest start
// of a character that breaks off is one, every other stray byte is one.
std::int64_t count_invalid_utf8(std::string_view text);

// Length of `text` without a character at its end that further bytes could still complete (0 to 3
// bytes are held back). Ill-formed bytes elsewhere don't matter.
std::size_t complete_utf8(std::string_view text);

// `text` with U+FFFD in place of each ill-formed sequence, counted as above.
std::string replace_invalid_utf8(std::string_view text);

}  // namespace rwkvx
