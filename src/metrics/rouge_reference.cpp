#include "rwkvx/metrics/rouge_reference.h"

#include <algorithm>
#include <map>
#include <set>

#include "rwkvx/metrics/porter.h"

namespace rwkvx {
namespace {

using Tokens = std::vector<std::string>;
using Table = std::vector<std::vector<std::size_t>>;

RougeScore score_of(std::size_t hits, std::size_t predicted, std::size_t wanted) {
  RougeScore score;
  score.precision =
      static_cast<double>(hits) / static_cast<double>(std::max<std::size_t>(predicted, 1));
  score.recall = static_cast<double>(hits) / static_cast<double>(std::max<std::size_t>(wanted, 1));
  if (score.precision + score.recall > 0)
    score.f1 = 2 * score.precision * score.recall / (score.precision + score.recall);
  return score;
}

std::map<Tokens, std::size_t> count_ngrams(const Tokens& tokens, std::size_t n) {
  std::map<Tokens, std::size_t> counts;
  for (std::size_t i = 0; i + n <= tokens.size(); ++i)
    ++counts[Tokens(tokens.begin() + static_cast<std::ptrdiff_t>(i),
                    tokens.begin() + static_cast<std::ptrdiff_t>(i + n))];
  return counts;
}

std::size_t total(const std::map<Tokens, std::size_t>& counts) {
  std::size_t sum = 0;
  for (const auto& [ngram, count] : counts) sum += count;
  return sum;
}

RougeScore rouge_n(const Tokens& predicted, const Tokens& wanted, std::size_t n) {
  const auto predicted_counts = count_ngrams(predicted, n), wanted_counts = count_ngrams(wanted, n);
  std::size_t hits = 0;
  for (const auto& [ngram, count] : wanted_counts) {
    const auto found = predicted_counts.find(ngram);
    if (found != predicted_counts.end()) hits += std::min(count, found->second);
  }
  return score_of(hits, total(predicted_counts), total(wanted_counts));
}

// table[i][j]: longest common subsequence of the first i of `wanted` and the first j of
// `predicted`.
Table lcs_table(const Tokens& wanted, const Tokens& predicted) {
  Table table(wanted.size() + 1, std::vector<std::size_t>(predicted.size() + 1, 0));
  for (std::size_t i = 1; i <= wanted.size(); ++i)
    for (std::size_t j = 1; j <= predicted.size(); ++j)
      table[i][j] = wanted[i - 1] == predicted[j - 1] ? table[i - 1][j - 1] + 1
                                                      : std::max(table[i - 1][j], table[i][j - 1]);
  return table;
}

std::vector<Tokens> sentences(std::string_view text, bool stemmer) {
  std::vector<Tokens> list;
  for (std::size_t begin = 0; begin <= text.size();) {
    const auto end = std::min(text.find('\n', begin), text.size());
    if (end > begin)
      list.push_back(rouge_tokens_reference(text.substr(begin, end - begin), stemmer));
    begin = end + 1;
  }
  return list;
}

RougeScore rouge_lsum(const std::vector<Tokens>& predicted, const std::vector<Tokens>& wanted) {
  std::map<std::string, std::size_t> predicted_left, wanted_left;
  std::size_t predicted_total = 0, wanted_total = 0, hits = 0;
  for (const auto& sentence : predicted)
    for (const auto& token : sentence) ++predicted_left[token], ++predicted_total;
  for (const auto& sentence : wanted)
    for (const auto& token : sentence) ++wanted_left[token], ++wanted_total;
  for (const auto& sentence : wanted) {
    std::set<std::size_t> positions;
    for (const auto& other : predicted) {
      const auto table = lcs_table(sentence, other);
      std::size_t i = sentence.size(), j = other.size();
      while (i > 0 && j > 0) {
        if (sentence[i - 1] == other[j - 1]) {
          positions.insert(i - 1);
          --i, --j;
        } else if (table[i][j - 1] > table[i - 1][j]) {
          --j;
        } else {
          --i;
        }
      }
    }
    for (const auto position : positions) {
      const auto& token = sentence[position];
      if (predicted_left[token] == 0 || wanted_left[token] == 0) continue;
      --predicted_left[token], --wanted_left[token];
      ++hits;
    }
  }
  return score_of(hits, predicted_total, wanted_total);
}

}  // namespace

std::vector<std::string> rouge_tokens_reference(std::string_view text, bool stemmer) {
  Tokens tokens;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) tokens.push_back(stemmer && word.size() > 3 ? porter_stem(word) : word);
    word.clear();
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
      word += c;
    } else if (c >= 'A' && c <= 'Z') {
      word += static_cast<char>(c - 'A' + 'a');
    } else if (text.substr(i, 3) == "\u212a") {  // KELVIN SIGN
      word += 'k';
      i += 2;
    } else if (text.substr(i, 2) == "\u0130") {  // I with a dot above: i and a combining dot
      word += 'i';
      end_word();
      i += 1;
    } else {
      end_word();
    }
  }
  end_word();
  return tokens;
}

RougeScore rouge_reference(const RougeType& type, std::string_view prediction,
                           std::string_view reference, bool stemmer) {
  if (type.kind == RougeType::Kind::kLcsSum)
    return rouge_lsum(sentences(prediction, stemmer), sentences(reference, stemmer));
  const auto predicted = rouge_tokens_reference(prediction, stemmer);
  const auto wanted = rouge_tokens_reference(reference, stemmer);
  if (type.kind == RougeType::Kind::kNgrams)
    return rouge_n(predicted, wanted, static_cast<std::size_t>(type.n));
  return score_of(lcs_table(wanted, predicted)[wanted.size()][predicted.size()], predicted.size(),
                  wanted.size());
}

}  // namespace rwkvx
