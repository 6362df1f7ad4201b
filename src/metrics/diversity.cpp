#include "rwkvx/metrics/diversity.h"

#include "rwkvx/metrics/bleu.h"

namespace rwkvx {
namespace {

// Different n-grams have different hashes but for chances of one in 2^64 a pair.
std::uint64_t mixed(std::uint64_t hash, std::uint32_t token) {
  hash = (hash ^ (token + 0x9e3779b97f4a7c15u)) * 0xbf58476d1ce4e5b9u;
  hash = (hash ^ (hash >> 29)) * 0x94d049bb133111ebu;
  return hash ^ (hash >> 32);
}

}  // namespace

void DiversityCounter::add(std::string_view text) {
  tokenizer_.tokenize(text, list_);
  const auto& ids = list_.ids;
  ++count_;
  std::unordered_set<std::uint64_t> own;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    std::uint64_t hash = 1;
    for (std::size_t n = 0; n < 4 && i + n < ids.size(); ++n) {
      hash = mixed(hash, ids[i + n]);
      seen_[n].insert(hash);
      ++totals_[n];
      if (n == 3) own.insert(hash);
    }
  }
  if (ids.size() >= 4) {
    ++repeating_;
    repetition_ += 1 - static_cast<double>(own.size()) / static_cast<double>(ids.size() - 3);
  }
  if (texts_.size() < kSelfBleuTexts) texts_.emplace_back(text);
}

Diversity DiversityCounter::result() const {
  Diversity result;
  result.texts = count_;
  result.tokens = totals_[0];
  for (std::size_t n = 0; n < 4; ++n)
    if (totals_[n] > 0)
      result.distinct[n] = static_cast<double>(seen_[n].size()) / static_cast<double>(totals_[n]);
  if (repeating_ > 0) result.repetition = repetition_ / static_cast<double>(repeating_);
  if (texts_.size() < 2) return result;
  BleuCounter bleu;
  std::vector<std::string_view> others(texts_.begin() + 1, texts_.end());
  double sum = 0;
  for (std::size_t i = 0; i < texts_.size(); ++i) {
    if (i > 0) others[i - 1] = texts_[i - 1];  // all but text i
    sum += bleu_score(bleu.count(texts_[i], others), BleuSmoothing::kExp, std::nullopt,
                      /*effective_order=*/true)
               .score;
  }
  result.self_bleu = sum / static_cast<double>(texts_.size());
  return result;
}

}  // namespace rwkvx
