// What byte-level BPE needs of Unicode: the classes that its regular expression names, and NFC.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace rwkvx {

// \p{L}, \p{N}, \s, and everything else, bytes that are not UTF-8 included.
enum class CharacterClass : std::uint8_t { kOther, kLetter, kNumber, kSpace };

// The character at the start of a text that is not empty: its class and its bytes. A byte that is
// part of no character is one of its own.
struct Character {
  CharacterClass kind;
  std::size_t bytes;
};
Character wide_character(std::string_view text);  // where it is not ASCII
inline constexpr std::array<CharacterClass, 128> kAsciiClasses = [] {
  std::array<CharacterClass, 128> kinds{};
  for (int c = 0; c < 128; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    kinds[static_cast<std::size_t>(c)] = letter                            ? CharacterClass::kLetter
                                         : c >= '0' && c <= '9'            ? CharacterClass::kNumber
                                         : c == ' ' || (c >= 9 && c <= 13) ? CharacterClass::kSpace
                                                                           : CharacterClass::kOther;
  }
  return kinds;
}();
inline Character first_character(std::string_view text) {
  const auto byte = static_cast<unsigned char>(text.front());
  return byte < 128 ? Character{kAsciiClasses[byte], 1} : wide_character(text);
}

// `text` in normalization form C. Bytes that are not UTF-8 stay as they are. A view of `text` where
// it is so already, as nearly every text is, else of `room`.
std::string_view compose(std::string_view text, std::string& room);

// The tables behind these functions, sorted by code point.
struct CodeRange {
  std::uint32_t first, last;
};
struct CombiningRange {
  std::uint32_t first, last, order;  // canonical combining class
};
struct Decomposition {
  std::uint32_t code, first, second;  // second: 0 where there is one part only
  std::uint32_t composes;             // whether the parts become the character again
};
extern const std::span<const CodeRange> kLetters, kNumbers;
extern const std::span<const CombiningRange> kCombining;
extern const std::span<const Decomposition> kDecompositions;

}  // namespace rwkvx
