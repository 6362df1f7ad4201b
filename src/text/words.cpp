#include "words.h"

#include "unicode.h"

namespace rwkvx {
namespace {

// Bytes of the characters of one class from `at` on.
std::size_t end_of_run(std::string_view text, std::size_t at, CharacterClass kind) {
  while (at < text.size()) {
    const auto next = first_character(text.substr(at));
    if (next.kind != kind) break;
    at += next.bytes;
  }
  return at;
}

// 's, 't, 're, 've, 'm, 'll, 'd, or 0.
std::size_t contraction(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const char first = text[1];
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  const auto two = text.substr(1, 2);
  return two == "re" || two == "ve" || two == "ll" ? 3 : 0;
}

}  // namespace

std::size_t first_word(std::string_view text) {
  if (const auto length = contraction(text); length != 0) return length;
  const auto first = first_character(text);
  if (first.kind != CharacterClass::kSpace) return end_of_run(text, first.bytes, first.kind);
  if (text[0] == ' ' && text.size() > 1) {
    const auto second = first_character(text.substr(1));
    if (second.kind != CharacterClass::kSpace)
      return end_of_run(text, 1 + second.bytes, second.kind);
  }
  // A run of spaces leaves its last one to what follows.
  std::size_t end = first.bytes, last = 0;
  while (end < text.size()) {
    const auto next = first_character(text.substr(end));
    if (next.kind != CharacterClass::kSpace) return last == 0 ? end : last;
    last = end;
    end += next.bytes;
  }
  return end;
}

}  // namespace rwkvx
