// ROUGE as rouge-score 0.1.2 computes it, fast.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/metrics/lcs.h"
#include "rwkvx/metrics/ngram_names.h"
#include "rwkvx/metrics/rouge_tokens.h"

namespace rwkvx {

// From 0 to 1. f1 is 2 precision recall / (precision + recall), 0 where both are 0.
struct RougeScore {
  double precision = 0, recall = 0, f1 = 0;
  friend bool operator==(const RougeScore&, const RougeScore&) = default;
};

struct RougeType {
  enum class Kind { kNgrams, kLcs, kLcsSum, kWeightedLcs, kSkipBigrams, kSkipBigramsUnigrams };
  static constexpr int kUnlimited = -1;
  Kind kind = Kind::kNgrams;
  int n = 1;  // of n-grams, 1 to 999; of skip-bigrams the words that may lie between, or kUnlimited
  double weight = 0;  // of the weighted LCS, at least 1
  friend bool operator==(const RougeType&, const RougeType&) = default;
};

// "rouge2", "rougeL", "rougeLsum", "rougeW" (weight 1.2), "rougeW1.5", "rougeS" (any distance),
// "rougeS4", "rougeSU4"; nothing for other names.
std::optional<RougeType> rouge_type(std::string_view name);
std::string rouge_name(const RougeType& type);
// The usual ones of the names that rouge_type() knows.
std::vector<std::string> rouge_names();

// Precision over `predicted` units and recall over `wanted` ones, of which `hits` are common.
RougeScore rouge_score(std::size_t hits, std::size_t predicted, std::size_t wanted);

// What becomes of several references: the score of the one with the highest F, or the mean of the
// best scores over all choices of all references but one (C.-Y. Lin 2004, section 2.1), or the mean
// of the scores against each.
enum class RougeReferences { kBest, kJackknife, kMean };
constexpr std::string_view enum_names(RougeReferences) { return "best|jackknife|mean"; }

// Scores predictions against references. C.-Y. Lin, "ROUGE: A package for automatic evaluation of
// summaries", 2004, in the form of google-research's rouge-score 0.1.2 (which departs from the
// paper in F, in its tokens and in the union of rougeLsum). Keeps its memory from pair to pair.
// Not thread-safe: one for each thread.
//
// - rougeN: clipped n-gram matches over the n-grams of either side.
// - rougeL: longest common subsequence of the whole texts.
// - rougeLsum: each sentence of the reference (sentences end at '\n') against the union of its
//   longest common subsequences with all sentences of the prediction.
// - rougeW, rougeS, rougeSU: as the paper defines them (sections 4 and 5), over the whole texts,
//   with F as above. rougeW weighs a run of k matches k^weight; rougeSU counts unigrams as units
//   beside the skip-bigrams. Their time is the product of the lengths, but for a limited skip
//   distance.
class RougeScorer {
 public:
  explicit RougeScorer(std::vector<RougeType> types, const RougeTokens& tokens = {},
                       RougeReferences several = RougeReferences::kBest);
  RougeScorer(std::vector<RougeType> types, bool stemmer)
      : RougeScorer(std::move(types), RougeTokens{.stemmer = stemmer}) {}

  // One score per type into `scores`; of several references with the highest F the first counts.
  // Any bytes will do as text. `references` must not be empty.
  void score(std::string_view prediction, std::span<const std::string_view> references,
             std::span<RougeScore> scores);
  RougeScore score(std::string_view prediction, std::string_view reference, std::size_t type = 0);

  const std::vector<RougeType>& types() const { return types_; }
  // Of the pair scored last: tokens of the prediction, and references without any.
  std::size_t prediction_tokens() const { return prediction_.ids.size(); }
  std::size_t references_without_tokens() const { return references_without_tokens_; }

 private:
  // A token or n-gram that only one side has.
  static constexpr std::uint32_t kUnmatched = LcsMatcher::kNowhere;

  struct Side {
    std::vector<std::uint32_t> tokens;  // numbered from 0 within the pair
    std::vector<std::uint32_t> grams;   // of the n being counted, by where they begin
    std::vector<std::uint32_t> counts;  // of each such n-gram
    std::vector<std::uint32_t> token_counts;
  };

  void number_tokens();
  void next_grams(std::size_t n);
  std::size_t common_grams() const;
  std::size_t lcs_length();
  std::size_t union_hits();
  double weighted_lcs(double weight);
  std::size_t skip_bigram_hits(int skip);
  RougeScore score_weighted(const RougeType& type);
  RougeScore score_skips(const RougeType& type);
  void score_reference(std::span<RougeScore> scores, bool first);
  void keep(std::size_t type, bool first, const RougeScore& score, std::span<RougeScore> scores);

  std::vector<RougeType> types_;
  std::size_t largest_n_ = 0;
  bool wants_lcs_ = false, wants_sum_ = false;
  RougeReferences several_;
  std::vector<RougeScore> second_;  // per type: the best reference but for the one kept
  std::vector<bool> has_second_;
  std::size_t references_without_tokens_ = 0;

  RougeTokenizer tokenizer_;
  TokenList prediction_, reference_;
  Side predicted_, wanted_;
  std::uint32_t tokens_known_ = 0;  // different tokens of the reference

  struct Numbered {
    std::uint32_t stamp = 0, number = 0;
  };
  std::vector<Numbered> numbered_;  // by the tokenizer's id
  std::uint32_t number_stamp_ = 0;
  NgramNames names_;

  LcsMatcher lcs_;
  std::vector<std::uint32_t> kept_a_, kept_b_, remaining_;
  std::vector<char> taken_;
};

}  // namespace rwkvx
