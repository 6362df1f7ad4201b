#include <algorithm>
#include <initializer_list>

#include "rwkvx/base/utf8.h"
#include "rwkvx/metrics/unicode.h"

namespace rwkvx::unicode {
namespace {

bool one_of(std::uint32_t code, std::initializer_list<std::uint32_t> codes) {
  return std::find(codes.begin(), codes.end(), code) != codes.end();
}

bool between(std::uint32_t code, std::initializer_list<Range> ranges) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const Range& range) { return code >= range.first && code <= range.last; });
}

// The classes MidNumLet and Single_Quote, MidLetter, MidNum, ExtendNumLet of UAX #29.
bool joins_both(std::uint32_t code) {
  return one_of(code, {'.', '\'', 0x2018, 0x2019, 0x2024, 0xfe52, 0xff07, 0xff0e});
}
bool joins_letters(std::uint32_t code) {
  return joins_both(code) ||
         one_of(code, {':', 0xb7, 0x387, 0x55f, 0x5f4, 0x2027, 0xfe13, 0xfe55, 0xff1a});
}
bool joins_numbers(std::uint32_t code) {
  return joins_both(code) || one_of(code, {',', ';', 0x37e, 0x589, 0x60c, 0x60d, 0x66c, 0x7f8,
                                           0x2044, 0xfe10, 0xfe14, 0xfe50, 0xfe54, 0xff0c, 0xff1b});
}
bool connects(std::uint32_t code) {
  return one_of(code,
                {'_', 0x203f, 0x2040, 0x2054, 0xfe33, 0xfe34, 0xfe4d, 0xfe4e, 0xfe4f, 0xff3f});
}

// Characters that are words of their own.
bool stands_alone(std::uint32_t code) {
  if (code < 0xe00) return false;
  return between(code, {{0xe00, 0xeff},      // Thai, Lao
                        {0x1000, 0x109f},    // Burmese
                        {0x1780, 0x17ff},    // Khmer
                        {0x3005, 0x3007},    // ideographic marks
                        {0x3021, 0x3029},    //
                        {0x3041, 0x3096},    // Hiragana
                        {0x3400, 0x4dbf},    // ideographs, extension A
                        {0x4e00, 0x9fff},    // ideographs
                        {0xf900, 0xfaff},    // compatibility ideographs
                        {0x1b001, 0x1b11f},  // Hiragana, historic
                        {0x20000, 0x3ffff}});
}

bool is_letter(std::uint32_t code) {
  if (code < 0x80) return (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z');
  return code >= 0xa0 && code < kInvalidByte && !is_number(code) && !is_space(code) &&
         !is_punctuation(code) && !is_symbol(code);
}

}  // namespace

bool is_ignorable(std::uint32_t code) {
  if (code < 0x80) return false;
  return code == 0xad || code == 0x61c || code == 0xfeff ||
         between(code, {{0x200b, 0x200f},
                        {0x202a, 0x202e},
                        {0x2060, 0x206f},
                        {0xfe00, 0xfe0f},
                        {0xe0000, 0xe01ef}});
}

void for_each_word(std::span<const std::uint32_t> codes,
                   const std::function<void(std::span<const std::uint32_t>)>& use) {
  const auto size = codes.size();
  const auto skip = [&](std::size_t at) {  // the next character that counts, `size` at the end
    while (at < size && is_ignorable(codes[at])) ++at;
    return at;
  };
  for (std::size_t at = skip(0); at < size; at = skip(at)) {
    const auto begin = at;
    if (stands_alone(codes[at]) && !is_punctuation(codes[at]) && !is_symbol(codes[at])) {
      use(codes.subspan(at++, 1));
      continue;
    }
    bool any = false, letter = false, number = false;  // the last two of the character before
    for (;;) {
      const auto code = codes[at];
      if (stands_alone(code)) break;
      if (is_letter(code) || is_number(code)) {
        letter = is_letter(code);
        number = !letter;
        any = true;
      } else if (connects(code)) {
        letter = number = true;
      } else {
        const auto next = skip(at + 1);
        const bool more = next < size && !stands_alone(codes[next]);
        const bool joined = more && ((letter && joins_letters(code) && is_letter(codes[next])) ||
                                     (number && joins_numbers(code) && is_number(codes[next])));
        if (!joined) break;
      }
      at = skip(at + 1);
      if (at == size) break;
    }
    if (any) use(codes.subspan(begin, at - begin));
    if (at == begin) ++at;
  }
}

}  // namespace rwkvx::unicode
