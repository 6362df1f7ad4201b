// UTF-8 as bytes: where characters end, and what is not one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace rwkvx {

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
