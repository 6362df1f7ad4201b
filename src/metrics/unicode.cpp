#include "rwkvx/metrics/unicode.h"

#include <algorithm>

namespace rwkvx::unicode {
namespace {

template <class Row>
const Row* find(std::span<const Row> rows, std::uint32_t code) {
  const auto row = std::lower_bound(rows.begin(), rows.end(), code,
                                    [](const Row& r, std::uint32_t c) { return r.last < c; });
  return row != rows.end() && row->first <= code ? &*row : nullptr;
}

bool in(std::span<const Range> ranges, std::uint32_t code) { return find(ranges, code) != nullptr; }

// Whether the capital sigma at `at` ends a word: letters before it, none after, where accents and
// the like count for nothing.
bool final_sigma(const std::vector<std::uint32_t>& codes, std::size_t at) {
  std::size_t before = at, after = at + 1;
  while (before > 0 && in(kPassedOver, codes[before - 1])) --before;
  if (before == 0 || !in(kCased, codes[before - 1])) return false;
  while (after < codes.size() && in(kPassedOver, codes[after])) ++after;
  return after == codes.size() || !in(kCased, codes[after]);
}

}  // namespace

bool is_space(std::uint32_t code) {
  if (code < 0x80) return code == ' ' || (code >= 9 && code <= 13) || (code >= 28 && code <= 31);
  return code == 0x85 || code == 0xa0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) ||
         code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

bool is_punctuation(std::uint32_t code) { return in(kPunctuation, code); }
bool is_symbol(std::uint32_t code) { return in(kSymbol, code); }
bool is_number(std::uint32_t code) { return in(kNumber, code); }

void lower(std::vector<std::uint32_t>& codes) {
  constexpr std::uint32_t kDottedI = 0x130, kCombiningDot = 0x307, kSigma = 0x3a3, kFinal = 0x3c2;
  std::vector<std::uint32_t> out;
  out.reserve(codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const auto code = codes[i];
    if (code < 0x80) {
      out.push_back(code >= 'A' && code <= 'Z' ? code + 32 : code);
    } else if (code == kDottedI) {
      out.insert(out.end(), {'i', kCombiningDot});
    } else if (code == kSigma && final_sigma(codes, i)) {
      out.push_back(kFinal);
    } else {
      const auto* run = find(kLower, code);
      const bool mapped = run != nullptr && (code - run->first) % run->stride == 0;
      out.push_back(mapped ? code + static_cast<std::uint32_t>(run->delta) : code);
    }
  }
  codes.swap(out);
}

}  // namespace rwkvx::unicode
