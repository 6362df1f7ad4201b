// What text metrics need of Unicode: words, lower case, a few classes.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rwkvx::unicode {

// What Python's str.isspace() holds for.
bool is_space(std::uint32_t code);
// In \p{P}, \p{S}, \p{N}.
bool is_punctuation(std::uint32_t code);
bool is_symbol(std::uint32_t code);
bool is_number(std::uint32_t code);

// Invisible characters that are no part of what a word says: soft hyphens, joiners, direction
// marks, variation selectors.
bool is_ignorable(std::uint32_t code);

// The words of a text by the default rules of UAX #29 (WB1 to WB13b), those with letters or numbers
// only: runs of letters, marks and numbers; ' . : and the like join letters, . , ; and the like
// join numbers, _ joins both. Ideographs, Hiragana and the scripts without spaces between words
// (Thai, Lao, Khmer, Burmese) give a word for each character. Departs from UAX #29 in taking code
// points that are no space, punctuation, symbol or control as letters, unassigned ones included.
void for_each_word(std::span<const std::uint32_t> codes,
                   const std::function<void(std::span<const std::uint32_t>)>& use);

// Python's str.lower(): the full mapping, with the final form of a capital sigma at a word's end.
void lower(std::vector<std::uint32_t>& codes);

// The tables behind these functions, sorted.
struct Range {
  std::uint32_t first, last;
};
struct LowerRun {  // first, first + stride, … last each become `delta` more
  std::uint32_t first, last, stride;
  std::int32_t delta;
};
extern const std::span<const Range> kPunctuation, kSymbol, kNumber, kCased, kPassedOver;
extern const std::span<const LowerRun> kLower;

}  // namespace rwkvx::unicode
