// Byte-pair encoding of words: bytes become tokens, then the pair of the best rank is merged, the
// leftmost first, until no pair has a rank.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

class BytePairs {
 public:
  // `first` and `second` become `merged`; the sooner in the list, the better the rank.
  struct Merge {
    TokenId first, second, merged;
  };
  // A byte without a token, -1, becomes U+FFFD, whose three bytes must have one.
  BytePairs(const std::array<TokenId, 256>& bytes, std::span<const Merge> merges);
  // The words that this thread met before.
  struct Cache;
  Cache& cache() const;
  // Appends the tokens of a word.
  void encode(std::string_view word, Cache& cache, std::vector<TokenId>& ids) const;

 private:
  struct Rule {
    std::uint64_t pair = ~std::uint64_t{0};
    std::uint32_t rank = 0;
    TokenId merged = 0;
  };
  // Null where the pair is not merged.
  const Rule* find(TokenId first, TokenId second) const;
  void merge(std::string_view word, std::vector<TokenId>& ids) const;
  void merge_short(std::string_view word, std::vector<TokenId>& ids) const;
  void merge_long(std::string_view word, std::vector<TokenId>& ids) const;

  std::array<TokenId, 256> bytes_;
  std::vector<Rule> rules_;  // a hash table whose size is a power of two
  int shift_ = 0;
  std::uint64_t number_;  // tells tokenizers apart in a thread's cache
};

}  // namespace rwkvx
