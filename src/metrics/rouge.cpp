#include "rwkvx/metrics/rouge.h"

#include <algorithm>
#include <charconv>

namespace rwkvx {
namespace {

constexpr double kUsualWeight = 1.2;  // of rougeW

std::size_t ngrams(std::size_t tokens, std::size_t n) { return tokens < n ? 0 : tokens - n + 1; }

}  // namespace

std::optional<RougeType> rouge_type(std::string_view name) {
  using Kind = RougeType::Kind;
  if (name == "rougeL") return RougeType{Kind::kLcs, 0};
  if (name == "rougeLsum") return RougeType{Kind::kLcsSum, 0};
  if (!name.starts_with("rouge")) return std::nullopt;
  name.remove_prefix(5);
  const auto whole = [](std::string_view digits, int least) -> std::optional<int> {
    int value = 0;
    const auto end = digits.data() + digits.size();
    if (digits.empty() || digits.size() > 3 || (digits[0] == '0' && digits.size() > 1) ||
        std::from_chars(digits.data(), end, value).ptr != end || value < least)
      return std::nullopt;
    return value;
  };
  if (name.starts_with("W")) {
    name.remove_prefix(1);
    if (name.empty()) return RougeType{Kind::kWeightedLcs, 0, kUsualWeight};
    double weight = 0;
    const auto end = name.data() + name.size();
    const auto read = std::from_chars(name.data(), end, weight, std::chars_format::fixed);
    if (read.ec != std::errc() || read.ptr != end || !(weight >= 1 && weight <= 100))
      return std::nullopt;
    return RougeType{Kind::kWeightedLcs, 0, weight};
  }
  if (name.starts_with("S")) {
    const bool unigrams = name.starts_with("SU");
    name.remove_prefix(unigrams ? 2 : 1);
    const auto kind = unigrams ? Kind::kSkipBigramsUnigrams : Kind::kSkipBigrams;
    if (name.empty()) return RougeType{kind, RougeType::kUnlimited};
    const auto skip = whole(name, 0);
    return skip ? std::optional(RougeType{kind, *skip}) : std::nullopt;
  }
  const auto n = whole(name, 1);
  return n ? std::optional(RougeType{Kind::kNgrams, *n}) : std::nullopt;
}

std::string rouge_name(const RougeType& type) {
  const auto skip = type.n == RougeType::kUnlimited ? "" : std::to_string(type.n);
  switch (type.kind) {
    case RougeType::Kind::kLcs:
      return "rougeL";
    case RougeType::Kind::kLcsSum:
      return "rougeLsum";
    case RougeType::Kind::kWeightedLcs: {
      if (type.weight == kUsualWeight) return "rougeW";
      char digits[32];
      return "rougeW" +
             std::string(
                 digits,
                 std::to_chars(digits, digits + 32, type.weight, std::chars_format::fixed).ptr);
    }
    case RougeType::Kind::kSkipBigrams:
      return "rougeS" + skip;
    case RougeType::Kind::kSkipBigramsUnigrams:
      return "rougeSU" + skip;
    default:
      return "rouge" + std::to_string(type.n);
  }
}

std::vector<std::string> rouge_names() {
  std::vector<std::string> names;
  for (int n = 1; n <= 9; ++n) names.push_back("rouge" + std::to_string(n));
  names.insert(names.end(),
               {"rougeL", "rougeLsum", "rougeW", "rougeS", "rougeS4", "rougeSU", "rougeSU4"});
  return names;
}

RougeScore rouge_score(std::size_t hits, std::size_t predicted, std::size_t wanted) {
  RougeScore score;
  if (hits == 0) return score;
  score.precision = static_cast<double>(hits) / static_cast<double>(predicted);
  score.recall = static_cast<double>(hits) / static_cast<double>(wanted);
  // In this order, so that the last bit is rouge-score's.
  score.f1 = 2 * score.precision * score.recall / (score.precision + score.recall);
  return score;
}

RougeScorer::RougeScorer(std::vector<RougeType> types, const RougeTokens& tokens,
                         RougeReferences several)
    : types_(std::move(types)), several_(several), tokenizer_(tokens) {
  for (const auto& type : types_) {
    if (type.kind == RougeType::Kind::kNgrams)
      largest_n_ = std::max(largest_n_, static_cast<std::size_t>(type.n));
    wants_lcs_ = wants_lcs_ || type.kind == RougeType::Kind::kLcs;
    wants_sum_ = wants_sum_ || type.kind == RougeType::Kind::kLcsSum;
  }
}

RougeScore RougeScorer::score(std::string_view prediction, std::string_view reference,
                              std::size_t type) {
  std::vector<RougeScore> scores(types_.size());
  score(prediction, {&reference, 1}, scores);
  return scores[type];
}

void RougeScorer::score(std::string_view prediction, std::span<const std::string_view> references,
                        std::span<RougeScore> scores) {
  tokenizer_.begin_group();
  tokenizer_.tokenize(prediction, prediction_);
  references_without_tokens_ = 0;
  has_second_.assign(types_.size(), false);
  second_.resize(types_.size());
  bool first = true;
  for (const auto reference : references) {
    tokenizer_.tokenize(reference, reference_);
    references_without_tokens_ += reference_.ids.empty();
    score_reference(scores, first);
    first = false;
  }
  if (several_ == RougeReferences::kMean) {
    const auto count = static_cast<double>(references.size());
    for (auto& score : scores)
      score = {score.precision / count, score.recall / count, score.f1 / count};
  }
  if (several_ != RougeReferences::kJackknife || references.size() < 2) return;
  // Without any other reference the best one stays the best, without itself the second is.
  const auto others = static_cast<double>(references.size() - 1);
  const auto mean = [&](double best, double second) {
    return (others * best + second) / (others + 1);
  };
  for (std::size_t i = 0; i < types_.size(); ++i)
    scores[i] = {mean(scores[i].precision, second_[i].precision),
                 mean(scores[i].recall, second_[i].recall), mean(scores[i].f1, second_[i].f1)};
}

void RougeScorer::keep(std::size_t type, bool first, const RougeScore& score,
                       std::span<RougeScore> scores) {
  if (first) {
    scores[type] = score;
    return;
  }
  if (several_ == RougeReferences::kMean) {
    scores[type].precision += score.precision;
    scores[type].recall += score.recall;
    scores[type].f1 += score.f1;
    return;
  }
  if (score.f1 > scores[type].f1) {
    second_[type] = scores[type];  // even of equal ones, since it came first
    scores[type] = score;
  } else if (!has_second_[type] || score.f1 > second_[type].f1) {
    second_[type] = score;
  }
  has_second_[type] = true;
}

void RougeScorer::score_reference(std::span<RougeScore> scores, bool first) {
  number_tokens();
  const std::size_t predicted = prediction_.ids.size(), wanted = reference_.ids.size();
  const auto keep_all = [&](RougeType::Kind kind, std::size_t n, const RougeScore& score) {
    for (std::size_t i = 0; i < types_.size(); ++i)
      if (types_[i].kind == kind &&
          (kind != RougeType::Kind::kNgrams || static_cast<std::size_t>(types_[i].n) == n))
        keep(i, first, score, scores);
  };
  for (std::size_t n = 1; n <= largest_n_; ++n) {
    if (n > 1) next_grams(n);
    keep_all(RougeType::Kind::kNgrams, n,
             rouge_score(common_grams(), ngrams(predicted, n), ngrams(wanted, n)));
  }
  if (wants_lcs_) keep_all(RougeType::Kind::kLcs, 0, rouge_score(lcs_length(), predicted, wanted));
  if (wants_sum_)
    keep_all(RougeType::Kind::kLcsSum, 0, rouge_score(union_hits(), predicted, wanted));
  for (std::size_t i = 0; i < types_.size(); ++i) {
    const auto kind = types_[i].kind;
    if (kind == RougeType::Kind::kWeightedLcs) keep(i, first, score_weighted(types_[i]), scores);
    if (kind == RougeType::Kind::kSkipBigrams || kind == RougeType::Kind::kSkipBigramsUnigrams)
      keep(i, first, score_skips(types_[i]), scores);
  }
}

// Numbers the tokens of the pair from 0 so that everything after works on small tables. A token of
// the prediction that the reference has not is kUnmatched.
void RougeScorer::number_tokens() {
  if (numbered_.size() < tokenizer_.id_limit())
    numbered_.resize(std::max<std::size_t>(tokenizer_.id_limit(), numbered_.size() * 2));
  if (++number_stamp_ == 0) {
    std::fill(numbered_.begin(), numbered_.end(), Numbered{});
    number_stamp_ = 1;
  }
  tokens_known_ = 0;
  wanted_.tokens.resize(reference_.ids.size());
  wanted_.counts.clear();
  for (std::size_t i = 0; i < reference_.ids.size(); ++i) {
    auto& numbered = numbered_[reference_.ids[i]];
    if (numbered.stamp != number_stamp_) {
      numbered = {number_stamp_, tokens_known_++};
      wanted_.counts.push_back(0);
    }
    wanted_.tokens[i] = numbered.number;
    ++wanted_.counts[numbered.number];
  }
  predicted_.tokens.resize(prediction_.ids.size());
  predicted_.counts.assign(tokens_known_, 0);
  for (std::size_t i = 0; i < prediction_.ids.size(); ++i) {
    const auto& numbered = numbered_[prediction_.ids[i]];
    if (numbered.stamp != number_stamp_) {
      predicted_.tokens[i] = kUnmatched;
      continue;
    }
    predicted_.tokens[i] = numbered.number;
    ++predicted_.counts[numbered.number];
  }
  predicted_.token_counts = predicted_.counts;
  if (largest_n_ > 1) {
    predicted_.grams = predicted_.tokens;
    wanted_.grams = wanted_.tokens;
  }
}

std::size_t RougeScorer::common_grams() const {
  std::size_t common = 0;
  for (std::size_t id = 0; id < wanted_.counts.size(); ++id)
    common += std::min(wanted_.counts[id], predicted_.counts[id]);
  return common;
}

// Makes n-grams of the (n-1)-grams: one is the (n-1)-gram that begins where it does, and its last
// token. Those with a part that only one side has are left out at once, and few are left in
// ordinary texts.
void RougeScorer::next_grams(std::size_t n) {
  const auto limit = ngrams(wanted_.tokens.size(), n);
  names_.clear(limit);
  auto& counts = remaining_;  // predicted_.counts still tells what the prediction has
  counts.clear();
  for (std::size_t i = 0; i < limit; ++i) {
    const auto before = wanted_.grams[i], token = wanted_.tokens[i + n - 1];
    if (before == kUnmatched || predicted_.counts[before] == 0 ||
        predicted_.token_counts[token] == 0) {
      wanted_.grams[i] = kUnmatched;
      continue;
    }
    const auto gram = names_.name(before, token);
    if (gram == counts.size()) counts.push_back(0);
    wanted_.grams[i] = gram;
    ++counts[gram];
  }
  wanted_.counts.swap(counts);
  predicted_.counts.assign(names_.size(), 0);
  const auto predicted = ngrams(predicted_.tokens.size(), n);
  for (std::size_t i = 0; i < predicted; ++i) {
    const auto before = predicted_.grams[i], token = predicted_.tokens[i + n - 1];
    predicted_.grams[i] = kUnmatched;
    if (before == kUnmatched || token == kUnmatched) continue;
    const auto gram = names_.name_or(before, token, kUnmatched);
    if (gram == kUnmatched) continue;
    predicted_.grams[i] = gram;
    ++predicted_.counts[gram];
  }
}

// Tokens that only one side has are in no common subsequence.
std::size_t RougeScorer::lcs_length() {
  kept_a_.clear();
  for (const auto token : wanted_.tokens)
    if (predicted_.token_counts[token] > 0) kept_a_.push_back(token);
  kept_b_.clear();
  for (const auto token : predicted_.tokens)
    if (token != kUnmatched) kept_b_.push_back(token);
  return lcs_.length(kept_a_, kept_b_, tokens_known_);
}

// Tokens of the reference that the prediction has not can go: the walk back passes by them. Those
// of the prediction must stay, since where the walk turns depends on them.
std::size_t RougeScorer::union_hits() {
  // Each position of the reference is a hit at most once, so the reference's own counts never run
  // out and only the prediction's are kept.
  remaining_ = predicted_.token_counts;
  std::size_t hits = 0, begin = 0;
  for (const std::size_t end : reference_.sentence_ends) {
    kept_a_.clear();
    for (std::size_t i = begin; i < end; ++i)
      if (predicted_.token_counts[wanted_.tokens[i]] > 0) kept_a_.push_back(wanted_.tokens[i]);
    begin = end;
    if (kept_a_.empty()) continue;
    lcs_.set_pattern(kept_a_, tokens_known_);
    taken_.assign(kept_a_.size(), 0);
    std::size_t text_begin = 0;
    for (const std::size_t text_end : prediction_.sentence_ends) {
      lcs_.mark(std::span(predicted_.tokens).subspan(text_begin, text_end - text_begin), taken_);
      text_begin = text_end;
    }
    for (std::size_t i = 0; i < taken_.size(); ++i) {
      auto& left = remaining_[kept_a_[i]];
      if (taken_[i] == 0 || left == 0) continue;
      --left;
      ++hits;
    }
  }
  return hits;
}

}  // namespace rwkvx
