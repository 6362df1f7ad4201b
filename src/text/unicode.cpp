#include "unicode.h"

#include <algorithm>
#include <vector>

#include "rwkvx/base/utf8.h"

namespace rwkvx {
namespace {

constexpr std::uint32_t kCodes = 0x110000;

// Hangul syllables are composed by arithmetic (The Unicode Standard, section 3.12).
constexpr std::uint32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;
constexpr std::uint32_t kLeadCount = 19, kVowelCount = 21, kTailCount = 28;
constexpr std::uint32_t kSyllableCount = kLeadCount * kVowelCount * kTailCount;

struct Pair {
  std::uint32_t first, second, composed;
};

// The tables, laid out for single loads.
class Properties {
 public:
  Properties() : rows_(kCodes) {
    const auto mark = [&](std::span<const CodeRange> ranges, CharacterClass kind) {
      for (const auto& range : ranges)
        for (auto code = range.first; code <= range.last; ++code)
          rows_[code] = static_cast<std::uint8_t>(kind);
    };
    mark(kLetters, CharacterClass::kLetter);
    mark(kNumbers, CharacterClass::kNumber);
    static constexpr CodeRange kSpaces[] = {
        {9, 13},          {' ', ' '},       {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680},
        {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};
    mark(kSpaces, CharacterClass::kSpace);
    for (const auto& range : kCombining)
      for (auto code = range.first; code <= range.last; ++code) rows_[code] |= kUnsettled;
    for (const auto& row : kDecompositions) {
      if (row.composes == 0) {
        rows_[row.code] |= kUnsettled;
      } else {
        rows_[row.second] |= kUnsettled;
        pairs_.push_back({row.first, row.second, row.code});
      }
    }
    for (auto code = kVowels; code < kVowels + kVowelCount; ++code) rows_[code] |= kUnsettled;
    for (auto code = kTails + 1; code < kTails + kTailCount; ++code) rows_[code] |= kUnsettled;
    std::sort(pairs_.begin(), pairs_.end(), before);
  }
  CharacterClass kind(std::uint32_t code) const {
    return static_cast<CharacterClass>(rows_[code] & 3);
  }
  // Whether form C may hold something else in its place, depending on what precedes it.
  bool unsettled(std::uint32_t code) const { return (rows_[code] & kUnsettled) != 0; }
  // The character that two become, 0 where they stay two.
  std::uint32_t composed(std::uint32_t first, std::uint32_t second) const {
    if (first - kLeads < kLeadCount && second - kVowels < kVowelCount)
      return kSyllables + ((first - kLeads) * kVowelCount + second - kVowels) * kTailCount;
    if (first - kSyllables < kSyllableCount && (first - kSyllables) % kTailCount == 0 &&
        second - kTails - 1 < kTailCount - 1)
      return first + second - kTails;
    const Pair wanted{first, second, 0};
    const auto found = std::lower_bound(pairs_.begin(), pairs_.end(), wanted, before);
    return found != pairs_.end() && !before(wanted, *found) ? found->composed : 0;
  }

 private:
  static constexpr std::uint8_t kUnsettled = 4;
  static bool before(const Pair& a, const Pair& b) {
    return a.first != b.first ? a.first < b.first : a.second < b.second;
  }
  std::vector<std::uint8_t> rows_;
  std::vector<Pair> pairs_;
};

const Properties& properties() {
  static const Properties all;
  return all;
}

// The code point of the well-formed character of `bytes` bytes at the start of `text`.
std::uint32_t code_of(std::string_view text, std::size_t bytes) {
  const auto at = [&](std::size_t i) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i]));
  };
  switch (bytes) {
    case 1:
      return at(0);
    case 2:
      return (at(0) & 0x1F) << 6 | (at(1) & 0x3F);
    case 3:
      return (at(0) & 0x0F) << 12 | (at(1) & 0x3F) << 6 | (at(2) & 0x3F);
    default:
      return (at(0) & 0x07) << 18 | (at(1) & 0x3F) << 12 | (at(2) & 0x3F) << 6 | (at(3) & 0x3F);
  }
}

std::uint32_t combining_order(std::uint32_t code) {
  const auto row =
      std::lower_bound(kCombining.begin(), kCombining.end(), code,
                       [](const auto& range, std::uint32_t c) { return range.last < c; });
  return row != kCombining.end() && row->first <= code ? row->order : 0;
}

// A code point with its canonical combining class.
struct Ordered {
  std::uint32_t code, order;
};

// Appends the full canonical decomposition.
void decompose(std::uint32_t code, std::vector<Ordered>& out) {
  if (code - kSyllables < kSyllableCount) {
    const auto index = code - kSyllables;
    out.push_back({kLeads + index / (kVowelCount * kTailCount), 0});
    out.push_back({kVowels + index % (kVowelCount * kTailCount) / kTailCount, 0});
    if (index % kTailCount != 0) out.push_back({kTails + index % kTailCount, 0});
    return;
  }
  const auto row = std::lower_bound(kDecompositions.begin(), kDecompositions.end(), code,
                                    [](const auto& one, std::uint32_t c) { return one.code < c; });
  if (row == kDecompositions.end() || row->code != code) {
    out.push_back({code, combining_order(code)});
    return;
  }
  decompose(row->first, out);  // a few levels at most
  if (row->second != 0) decompose(row->second, out);
}

// Puts marks into canonical order and composes what has a composed form.
void compose_run(std::vector<Ordered>& run, std::string& out) {
  for (auto begin = run.begin(); begin != run.end();) {
    if (begin->order == 0) {
      ++begin;
      continue;
    }
    const auto end = std::find_if(begin, run.end(), [](const auto& one) { return one.order == 0; });
    std::stable_sort(begin, end, [](const auto& a, const auto& b) { return a.order < b.order; });
    begin = end;
  }
  constexpr std::size_t kNone = ~std::size_t{0};
  std::size_t kept = 0, starter = kNone;
  for (const Ordered one : run) {
    // A mark reaches the starter unless one of the same class, or a starter, lies between.
    if (starter != kNone &&
        (kept == starter + 1 || (run[kept - 1].order != 0 && run[kept - 1].order < one.order))) {
      if (const auto both = properties().composed(run[starter].code, one.code); both != 0) {
        run[starter].code = both;
        continue;
      }
    }
    if (one.order == 0) starter = kept;
    run[kept++] = one;
  }
  for (std::size_t i = 0; i < kept; ++i) append_utf8(run[i].code, out);
}

}  // namespace

Character wide_character(std::string_view text) {
  const auto bytes = utf8_character(text);
  if (bytes == 0) return {CharacterClass::kOther, 1};
  return {properties().kind(code_of(text, bytes)), bytes};
}

std::string_view compose(std::string_view text, std::string& room) {
  const auto& all = properties();
  std::vector<Ordered> run;
  std::size_t copied = 0;   // bytes of the text that are in `room`
  std::size_t settled = 0;  // where the last character that begins a run of its own begins
  bool changed = false;
  for (std::size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      settled = at++;
      continue;
    }
    const auto rest_of_text = text.substr(at);
    const auto bytes = utf8_character(rest_of_text);
    if (bytes == 0 || !all.unsettled(code_of(rest_of_text, bytes))) {
      settled = at;
      at += std::max<std::size_t>(bytes, 1);
      continue;
    }
    // A run: the character before, and all up to the next one that begins a run.
    run.clear();
    std::size_t end = settled;
    for (bool first = true; end < text.size(); first = false) {
      const auto rest = text.substr(end);
      const auto length = utf8_character(rest);
      const auto code = length == 0 ? 0 : code_of(rest, length);
      if (!first && end > at && (length == 0 || !all.unsettled(code))) break;
      if (length == 0) {  // a stray byte at the run's beginning
        end += 1;
        settled = end;
        continue;
      }
      decompose(code, run);
      end += length;
    }
    if (!changed) room.clear();
    changed = true;
    room.append(text.substr(copied, settled - copied));
    compose_run(run, room);
    copied = at = settled = end;
  }
  if (!changed) return text;
  room.append(text.substr(copied));
  return room;
}

}  // namespace rwkvx
