// Where byte-level BPE cuts a text before it merges.
#pragma once

#include <string_view>

namespace rwkvx {

// Bytes of the first match of GPT-2's regular expression at the start of a text that is not empty:
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// A byte that is not UTF-8 is neither letter, number nor space.
std::size_t first_word(std::string_view text);

}  // namespace rwkvx
