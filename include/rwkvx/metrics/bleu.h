// BLEU as sacrebleu 2.6.0 computes it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "rwkvx/metrics/ngram_names.h"

namespace rwkvx {

// 13a: mteval-v13a's, for European languages; intl: mteval-v14's, by Unicode's classes; char: one
// token for each character; none: white space alone; zh: each Chinese character, the rest as 13a;
// ja-mecab, ko-mecab: MeCab's words (metrics/mecab.h); flores101, flores200: the pieces of a
// sentencepiece model (text/sentence_pieces.h).
enum class BleuTokenizer {
  k13a,
  kIntl,
  kChar,
  kNone,
  kZh,
  kJaMecab,
  kKoMecab,
  kFlores101,
  kFlores200
};
constexpr std::string_view enum_names(BleuTokenizer) {
  return "13a|intl|char|none|zh|ja-mecab|ko-mecab|flores101|flores200";
}
constexpr bool uses_mecab(BleuTokenizer tokenizer) {
  return tokenizer == BleuTokenizer::kJaMecab || tokenizer == BleuTokenizer::kKoMecab;
}
constexpr bool uses_pieces(BleuTokenizer tokenizer) {
  return tokenizer == BleuTokenizer::kFlores101 || tokenizer == BleuTokenizer::kFlores200;
}
// What cuts a text where a tokenizer is of another library: its tokens with blanks between. Called
// from several threads.
using BleuCutter = std::function<std::string(std::string_view)>;
// The tokens with one blank between them, of a tokenizer that is of no other library.
std::string bleu_tokens(std::string_view text, BleuTokenizer tokenizer);

// What a score is made of. The counts of a corpus are the sums of those of its segments.
struct BleuCounts {
  static constexpr std::size_t kOrders = 4;
  std::uint64_t predicted_length = 0;
  std::uint64_t reference_length =
      0;  // of the closest reference, of equally close ones the shorter
  std::array<std::uint64_t, kOrders> hits{}, totals{};  // of n-grams of 1 to 4 tokens
  BleuCounts& operator+=(const BleuCounts& other);
  friend bool operator==(const BleuCounts&, const BleuCounts&) = default;
};

// Counts segments. Any bytes will do as text; each that is not UTF-8 is a character of its own. Not
// thread-safe.
class BleuCounter {
 public:
  // `cutter` where the tokenizer is of another library.
  explicit BleuCounter(BleuTokenizer tokenizer = BleuTokenizer::k13a, bool lower_case = false,
                       BleuCutter cutter = {})
      : tokenizer_(tokenizer), lower_case_(lower_case), cutter_(std::move(cutter)) {}
  BleuCounts count(std::string_view prediction, std::span<const std::string_view> references);

 private:
  void tokenize(std::string_view text, std::vector<std::uint32_t>& tokens);
  BleuTokenizer tokenizer_;
  bool lower_case_;
  BleuCutter cutter_;
  std::unordered_map<std::string, std::uint32_t> words_;
  std::vector<std::vector<std::uint32_t>> sides_;  // the prediction, then the references
  NgramNames names_;
  std::vector<std::uint32_t> predicted_, wanted_, most_wanted_;
};

// exp: the k-th order without hits has 1/2^k hits; floor: `value` hits; add-k: `value` more hits
// and n-grams in every order above 1.
enum class BleuSmoothing { kNone, kExp, kFloor, kAddK };

struct BleuScore {
  double score = 0;                                      // 0 to 100
  std::array<double, BleuCounts::kOrders> precisions{};  // 0 to 100
  double brevity_penalty = 1;
};

// K. Papineni et al., "BLEU: a method for automatic evaluation of machine translation", ACL 2002.
// `value` is that of the smoothing: 0.1 for floor and 1 for add-k where none is given. With
// `effective_order` orders without n-grams are left out, as is usual for single segments.
BleuScore bleu_score(const BleuCounts& counts, BleuSmoothing smoothing = BleuSmoothing::kExp,
                     std::optional<double> value = std::nullopt, bool effective_order = false);

}  // namespace rwkvx
