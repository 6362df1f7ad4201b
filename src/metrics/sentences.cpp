#include "rwkvx/metrics/sentences.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "rwkvx/base/utf8.h"
#include "rwkvx/metrics/unicode.h"

namespace rwkvx {
namespace {

using Codes = std::vector<std::uint32_t>;

constexpr std::array<std::string_view, 24> kAbbreviations = {
    "mr", "mrs", "ms", "dr",  "prof", "st", "jr",   "sr",  "vs",  "e.g", "i.e", "cf",
    "no", "fig", "al", "inc", "ltd",  "co", "corp", "gen", "col", "sen", "rep", "approx"};

bool is_one_of(std::uint32_t code, std::u32string_view list) {
  return list.find(static_cast<char32_t>(code)) != list.npos;
}
bool ends_sentence(std::uint32_t code) { return is_one_of(code, U".!?…"); }
bool ends_ideographic(std::uint32_t code) { return is_one_of(code, U"。！？"); }
bool closes(std::uint32_t code) { return is_one_of(code, U"\"')]}”’»」』）】"); }
bool is_lower(std::uint32_t code) { return code >= 'a' && code <= 'z'; }
bool is_upper(std::uint32_t code) { return code >= 'A' && code <= 'Z'; }

// Whether the full stop at `at` ends an abbreviation or an initial.
bool ends_abbreviation(const Codes& codes, std::size_t at) {
  if (codes[at] != '.') return false;
  std::size_t begin = at;
  while (begin > 0 && !unicode::is_space(codes[begin - 1]) &&
         !is_one_of(codes[begin - 1], U"(\"'“‘"))
    --begin;
  if (at == begin + 1 && is_upper(codes[begin])) return true;
  std::string word;
  for (auto i = begin; i < at; ++i) append_utf8(codes[i], word);
  std::transform(word.begin(), word.end(), word.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 'a' - 'A') : c;
  });
  return std::find(kAbbreviations.begin(), kAbbreviations.end(), word) != kAbbreviations.end();
}

}  // namespace

std::string break_at_marks(std::string_view text) {
  constexpr std::string_view kMark = "<n>";
  std::string out;
  for (std::size_t begin = 0;;) {
    const auto found = text.find(kMark, begin);
    out += text.substr(begin, found - begin);
    if (found == text.npos) return out;
    while (!out.empty() && out.back() == ' ') out.pop_back();
    out += '\n';
    begin = std::min(text.find_first_not_of(' ', found + kMark.size()), text.size());
  }
}

std::string split_sentences(std::string_view text) {
  Codes codes;
  decode_utf8(text, codes);
  std::string out;
  const auto size = codes.size();
  for (std::size_t i = 0; i < size;) {
    const auto code = codes[i];
    append_utf8(code, out);
    ++i;
    if (!ends_sentence(code) && !ends_ideographic(code)) continue;
    const bool abbreviation = ends_abbreviation(codes, i - 1);
    bool ideographic = ends_ideographic(code);
    for (; i < size && (ends_sentence(codes[i]) || ends_ideographic(codes[i]) || closes(codes[i]));
         ++i) {
      ideographic = ideographic || ends_ideographic(codes[i]);
      append_utf8(codes[i], out);
    }
    auto next = i;
    while (next < size && unicode::is_space(codes[next])) ++next;
    if (next == size || (next == i && !ideographic)) continue;
    if (!ideographic && (abbreviation || is_lower(codes[next]))) continue;
    out += '\n';
    i = next;
  }
  return out;
}

}  // namespace rwkvx
