#include "rwkvx/metrics/lcs.h"

#include <algorithm>
#include <bit>

namespace rwkvx {
namespace {

// Up to so many words a token's occurrences are kept as plain words: 4 x 64 tokens.
constexpr std::size_t kSmallWords = 4;
constexpr std::uint64_t kOnes = ~std::uint64_t{0};

// One word of the update; `carry` goes from word to word. A zero bit of `v` says that the table
// grows by one at this position.
inline std::uint64_t advance_word(std::uint64_t v, std::uint64_t matches, std::uint64_t& carry) {
  const std::uint64_t hits = v & matches;
  std::uint64_t sum, with_carry;
  const std::uint64_t over = __builtin_add_overflow(v, hits, &sum);
  const std::uint64_t over_again = __builtin_add_overflow(sum, carry, &with_carry);
  carry = over | over_again;
  return with_carry | (v & ~matches);
}

}  // namespace

void LcsMatcher::clear() {
  for (const auto token : pattern_) {
    if (words_ <= kSmallWords)
      std::fill_n(small_.begin() + static_cast<std::ptrdiff_t>(token * words_), words_, 0);
    else
      rows_[token] = Row{};
  }
}

void LcsMatcher::set_pattern(std::span<const std::uint32_t> pattern, std::uint32_t token_limit) {
  clear();
  pattern_.assign(pattern.begin(), pattern.end());
  words_ = (pattern.size() + 63) / 64;
  if (words_ <= kSmallWords) {
    if (small_.size() < token_limit * kSmallWords) small_.resize(token_limit * kSmallWords);
    build_small();
  } else {
    if (rows_.size() < token_limit) rows_.resize(token_limit);
    build_large();
  }
}

void LcsMatcher::build_small() {
  for (std::size_t i = 0; i < pattern_.size(); ++i)
    small_[pattern_[i] * words_ + i / 64] |= std::uint64_t{1} << (i % 64);
}

// Most tokens of a long text are in few of its words: keeping only those makes the time grow with
// the matches there are, and the memory with the pattern alone.
void LcsMatcher::build_large() {
  for (const auto token : pattern_) ++rows_[token].count;
  std::size_t pieces = 0, dense = 0;
  for (const auto token : pattern_) {
    auto& row = rows_[token];
    if (row.first != 0 || row.dense) continue;  // seen: `first` counts from 1 until filled
    if (row.count * 3 >= words_) {
      row.dense = true;
      row.first = static_cast<std::uint32_t>(dense++);
    } else {
      pieces += row.count;
      row.first = static_cast<std::uint32_t>(pieces);
    }
    row.count = 0;
  }
  pieces_.resize(pieces);
  dense_.assign(dense * words_, 0);
  // `first` of a sparse row stands behind its room; filling from the back brings it to the front.
  for (std::size_t i = pattern_.size(); i-- > 0;) {
    auto& row = rows_[pattern_[i]];
    const auto word = static_cast<std::uint32_t>(i / 64);
    const std::uint64_t bit = std::uint64_t{1} << (i % 64);
    if (row.dense) {
      dense_[row.first * words_ + word] |= bit;
      row.count = 1;
    } else if (row.count > 0 && pieces_[row.first].word == word) {
      pieces_[row.first].bits |= bit;
    } else {
      pieces_[--row.first] = {word, bit};
      ++row.count;
    }
  }
}

template <std::size_t kWords>
inline void LcsMatcher::advance_small(std::uint64_t* column, std::uint32_t token) const {
  const std::uint64_t* matches = small_.data() + token * kWords;
  std::uint64_t carry = 0;
  for (std::size_t w = 0; w < kWords; ++w) column[w] = advance_word(column[w], matches[w], carry);
}

void LcsMatcher::advance_large(std::uint64_t* column, std::uint32_t token, std::size_t& top) const {
  const auto row = rows_[token];
  if (row.count == 0) return;
  std::uint64_t carry = 0;
  if (row.dense) {
    const std::uint64_t* matches = dense_.data() + row.first * words_;
    for (std::size_t w = 0; w < words_; ++w) column[w] = advance_word(column[w], matches[w], carry);
    for (top = words_ - 1; top > 0 && column[top] == kOnes; --top) {
    }
    return;
  }
  std::size_t next = 0;  // the word that a carry goes into
  const auto ripple = [&](std::size_t end) {
    for (; carry != 0 && next < end; ++next) {
      const auto v = column[next];
      carry = v == kOnes;
      column[next] = v | (v + 1);
    }
  };
  for (const auto& piece : std::span(pieces_).subspan(row.first, row.count)) {
    ripple(std::min<std::size_t>(piece.word, top + 1));
    // A carry that got above `top` runs on through the ones and changes nothing on its way.
    column[piece.word] = advance_word(column[piece.word], piece.bits, carry);
    next = piece.word + 1;
    top = std::max<std::size_t>(top, piece.word);
  }
  ripple(top + 1);
}

void LcsMatcher::advance(std::uint64_t* column, std::uint32_t token, std::size_t& top) const {
  switch (words_) {
    case 1:
      return advance_small<1>(column, token);
    case 2:
      return advance_small<2>(column, token);
    case 3:
      return advance_small<3>(column, token);
    case 4:
      return advance_small<4>(column, token);
    default:
      return advance_large(column, token, top);
  }
}

// Bits behind the pattern's end never match, so they stay 1.
std::size_t LcsMatcher::zeros(const std::uint64_t* column) const {
  std::size_t count = 0;
  for (std::size_t w = 0; w < words_; ++w) count += 64 - std::popcount(column[w]);
  return count;
}

template <std::size_t kWords>
std::size_t LcsMatcher::length_small(std::span<const std::uint32_t> text) const {
  std::uint64_t column[kWords];
  std::fill_n(column, kWords, kOnes);
  for (const auto token : text) advance_small<kWords>(column, token);
  return zeros(column);
}

std::size_t LcsMatcher::length(std::span<const std::uint32_t> a, std::span<const std::uint32_t> b,
                               std::uint32_t token_limit) {
  // What both begin and end with is on a longest common subsequence.
  std::size_t same = 0;
  while (!a.empty() && !b.empty() && a.front() == b.front()) {
    a = a.subspan(1), b = b.subspan(1);
    ++same;
  }
  while (!a.empty() && !b.empty() && a.back() == b.back()) {
    a = a.first(a.size() - 1), b = b.first(b.size() - 1);
    ++same;
  }
  if (a.size() > b.size()) std::swap(a, b);
  set_pattern(a, token_limit);
  switch (words_) {
    case 0:
      return same;
    case 1:
      return same + length_small<1>(b);
    case 2:
      return same + length_small<2>(b);
    case 3:
      return same + length_small<3>(b);
    case 4:
      return same + length_small<4>(b);
    default:
      break;
  }
  column_.assign(words_, kOnes);
  std::size_t top = 0;
  for (const auto token : b) advance_large(column_.data(), token, top);
  return same + zeros(column_.data());
}

std::size_t LcsMatcher::mark(std::span<const std::uint32_t> text, std::span<char> taken) {
  if (words_ == 0 || text.empty()) return 0;
  const std::size_t words = words_;
  // Columns at the block starts, then those of the block being walked; one block where all fit.
  std::size_t block = text.size();
  if (text.size() > kept_words_ / words) {
    block = 1;
    while (block * block < text.size()) ++block;
  }
  const std::size_t blocks = (text.size() + block - 1) / block;
  const std::size_t needed = (blocks + block + 1) * words;
  if (columns_.size() < needed) columns_.resize(needed);
  std::uint64_t* starts = columns_.data();
  std::uint64_t* inside = starts + blocks * words;  // inside[(j + 1) words]: after token j

  std::fill_n(starts, words, kOnes);
  std::size_t top = 0;
  for (std::size_t b = 0; b + 1 < blocks; ++b) {
    std::uint64_t* column = starts + (b + 1) * words;
    std::copy_n(column - words, words, column);
    for (const auto token : text.subspan(b * block, block))
      if (token != kNowhere) advance(column, token, top);
  }
  std::size_t found = 0, i = pattern_.size();
  for (std::size_t b = blocks; b-- > 0 && i > 0;) {
    const auto part = text.subspan(b * block, std::min(block, text.size() - b * block));
    std::copy_n(starts + b * words, words, inside);
    top = b == 0 ? 0 : words - 1;
    for (std::size_t j = 0; j < part.size(); ++j) {
      std::uint64_t* column = inside + (j + 1) * words;
      std::copy_n(column - words, words, column);
      if (part[j] != kNowhere) advance(column, part[j], top);
    }
    for (std::size_t j = part.size(); j > 0 && i > 0;) {
      if (pattern_[i - 1] == part[j - 1]) {
        taken[i - 1] = 1;
        ++found;
        --i, --j;
        continue;
      }
      // On unequal tokens t[i][j] is the larger of t[i-1][j] and t[i][j-1], so the latter is
      // strictly larger just where t[i][j] > t[i-1][j]: a zero bit.
      const auto word = inside[j * words + (i - 1) / 64];
      if ((word >> ((i - 1) % 64) & 1) == 0)
        --j;
      else
        --i;
    }
  }
  return found;
}

}  // namespace rwkvx
