// rougeW, rougeS and rougeSU as C.-Y. Lin's paper of 2004 defines them.
#include <algorithm>
#include <cmath>

#include "rwkvx/metrics/rouge.h"

namespace rwkvx {
namespace {

// Pairs of `tokens` words in order with at most `skip` words between them.
std::size_t pairs(std::size_t tokens, int skip) {
  if (tokens < 2) return 0;
  const auto all = tokens * (tokens - 1) / 2;
  if (skip == RougeType::kUnlimited) return all;
  const auto reach = static_cast<std::size_t>(skip) + 1;  // partners of a word far from the end
  return reach >= tokens ? all : reach * (tokens - reach) + reach * (reach - 1) / 2;
}

}  // namespace

// Section 4: WLCS by dynamic programming, row by row.
double RougeScorer::weighted_lcs(double weight) {
  const auto& a = wanted_.tokens;
  const auto& b = predicted_.tokens;
  std::vector<double> score(b.size() + 1, 0), gain(std::min(a.size(), b.size()) + 1);
  std::vector<std::uint32_t> run(b.size() + 1, 0);
  for (std::size_t k = 0; k < gain.size(); ++k)
    gain[k] =
        std::pow(static_cast<double>(k + 1), weight) - std::pow(static_cast<double>(k), weight);
  for (const auto token : a) {
    double diagonal = 0;
    std::uint32_t diagonal_run = 0;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const double above = score[j];
      const auto above_run = run[j];
      if (token == b[j - 1]) {
        score[j] = diagonal + gain[diagonal_run];
        run[j] = diagonal_run + 1;
      } else {
        score[j] = std::max(above, score[j - 1]);
        run[j] = 0;
      }
      diagonal = above;
      diagonal_run = above_run;
    }
  }
  return score[b.size()];
}

// Equations 13 to 15, with f(k) = k^weight.
RougeScore RougeScorer::score_weighted(const RougeType& type) {
  RougeScore score;
  const auto common = weighted_lcs(type.weight);
  if (common == 0) return score;
  const auto share = [&](std::size_t tokens) {
    return std::pow(common, 1 / type.weight) / static_cast<double>(tokens);
  };
  score.precision = share(predicted_.tokens.size());
  score.recall = share(wanted_.tokens.size());
  score.f1 = 2 * score.precision * score.recall / (score.precision + score.recall);
  return score;
}

// Clipped matches, one first word after the other: the counts of one first word fit in a table.
std::size_t RougeScorer::skip_bigram_hits(int skip) {
  struct Starts {  // the positions of each token, in order
    std::vector<std::uint32_t> first, at;
  };
  const auto starts = [&](const std::vector<std::uint32_t>& tokens) {
    Starts found;
    found.first.assign(tokens_known_ + 1, 0);
    for (const auto token : tokens)
      if (token != kUnmatched) ++found.first[token + 1];
    for (std::size_t i = 0; i < tokens_known_; ++i) found.first[i + 1] += found.first[i];
    found.at.resize(found.first.back());
    auto next = found.first;
    for (std::size_t i = 0; i < tokens.size(); ++i)
      if (tokens[i] != kUnmatched) found.at[next[tokens[i]]++] = static_cast<std::uint32_t>(i);
    return found;
  };
  const auto wanted = starts(wanted_.tokens), predicted = starts(predicted_.tokens);
  const auto for_each_partner = [&](const std::vector<std::uint32_t>& tokens, const Starts& found,
                                    std::size_t token, const auto& use) {
    for (auto k = found.first[token]; k < found.first[token + 1]; ++k) {
      const std::size_t from = found.at[k] + std::size_t{1};
      const std::size_t end =
          skip == RougeType::kUnlimited
              ? tokens.size()
              : std::min(tokens.size(), from + static_cast<std::size_t>(skip) + 1);
      for (std::size_t j = from; j < end; ++j)
        if (tokens[j] != kUnmatched) use(tokens[j]);
    }
  };
  std::vector<std::size_t> left(tokens_known_, 0);
  std::size_t hits = 0;
  for (std::size_t token = 0; token < tokens_known_; ++token) {
    if (predicted_.token_counts[token] == 0) continue;
    for_each_partner(wanted_.tokens, wanted, token, [&](std::uint32_t b) { ++left[b]; });
    for_each_partner(predicted_.tokens, predicted, token, [&](std::uint32_t b) {
      if (left[b] == 0) return;
      --left[b];
      ++hits;
    });
    for_each_partner(wanted_.tokens, wanted, token, [&](std::uint32_t b) { left[b] = 0; });
  }
  return hits;
}

// Section 5; a unigram is what the paper's begin-of-sentence marker makes a pair with.
RougeScore RougeScorer::score_skips(const RougeType& type) {
  auto hits = skip_bigram_hits(type.n);
  auto predicted = pairs(predicted_.tokens.size(), type.n);
  auto wanted = pairs(wanted_.tokens.size(), type.n);
  if (type.kind == RougeType::Kind::kSkipBigramsUnigrams) {
    predicted += predicted_.tokens.size();
    wanted += wanted_.tokens.size();
    std::vector<std::size_t> left(predicted_.token_counts.begin(), predicted_.token_counts.end());
    for (const auto token : wanted_.tokens) {
      if (left[token] == 0) continue;
      --left[token];
      ++hits;
    }
  }
  return rouge_score(hits, predicted, wanted);
}

}  // namespace rwkvx
