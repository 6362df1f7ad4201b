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

// The code point at the start of `text` and its length; length 1 for a byte that is not UTF-8.
std::uint32_t decode_one(std::string_view text, std::size_t& length) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  length = 1;
  if (first < 0x80) return first;
  const std::size_t wanted = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < wanted) return kInvalidByte + first;
  std::uint32_t code = first & (0xffU >> (wanted + 1));
  for (std::size_t i = 1; i < wanted; ++i) {
    if ((byte(i) & 0xc0U) != 0x80) return kInvalidByte + first;
    code = code << 6 | (byte(i) & 0x3fU);
  }
  const bool overlong = (wanted == 3 && code < 0x800) || (wanted == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  if (overlong || surrogate || code >= kInvalidByte) return kInvalidByte + first;
  length = wanted;
  return code;
}

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

void decode(std::string_view text, std::vector<std::uint32_t>& codes) {
  codes.clear();
  while (!text.empty()) {
    std::size_t length;
    codes.push_back(decode_one(text, length));
    text.remove_prefix(length);
  }
}

void append(std::uint32_t code, std::string& text) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (code >> shift & 0x3f)); };
  if (code >= kInvalidByte) {
    text += static_cast<char>(code - kInvalidByte);
  } else if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xc0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    text += static_cast<char>(0xe0 | code >> 12);
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xf0 | code >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

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
