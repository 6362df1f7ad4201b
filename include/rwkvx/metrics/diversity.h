// How much a set of generated texts repeats itself; no references are needed.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "rwkvx/metrics/rouge_tokens.h"

namespace rwkvx {

struct Diversity {
  std::uint64_t texts = 0, tokens = 0;
  // Different n-grams over all n-grams of all texts, n = 1 to 4; 0 where there are none. J. Li et
  // al., NAACL 2016.
  std::array<double, 4> distinct{};
  // Mean over the texts of 1 - different 4-grams / 4-grams, of those that have any. S. Welleck et
  // al., ICLR 2020 ("seq-rep-4").
  double repetition = 0;
  // Mean BLEU (13a tokens, 0 to 100, effective order, exp smoothing) of the first kSelfBleuTexts
  // texts, each against all the others of them; 0 for fewer than two. Y. Zhu et al., SIGIR 2018.
  double self_bleu = 0;
};

// Takes texts one by one. Keeps a number of 8 bytes for every different n-gram, and the texts of
// self-BLEU. Not thread-safe.
class DiversityCounter {
 public:
  static constexpr std::size_t kSelfBleuTexts = 200;
  // Tokens as ROUGE has them.
  explicit DiversityCounter(RougeTokens tokens) : tokenizer_(std::move(tokens)) {}
  void add(std::string_view text);
  Diversity result() const;

 private:
  RougeTokenizer tokenizer_;
  TokenList list_;
  std::array<std::unordered_set<std::uint64_t>, 4> seen_;
  std::array<std::uint64_t, 4> totals_{};
  std::vector<std::string> texts_;
  std::uint64_t count_ = 0, repeating_ = 0;
  double repetition_ = 0;
};

}  // namespace rwkvx
