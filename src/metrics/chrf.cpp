#include "rwkvx/metrics/chrf.h"

#include "rwkvx/base/utf8.h"
#include "rwkvx/metrics/unicode.h"

namespace rwkvx {
namespace {

bool is_ascii_punctuation(std::uint32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
         (c >= '{' && c <= '~');
}

std::uint64_t ngrams(std::size_t tokens, std::size_t n) { return tokens < n ? 0 : tokens - n + 1; }

}  // namespace

ChrfCounts& ChrfCounts::operator+=(const ChrfCounts& other) {
  for (std::size_t i = 0; i < kMostOrders; ++i) {
    orders[i].predicted += other.orders[i].predicted;
    orders[i].wanted += other.orders[i].wanted;
    orders[i].hits += other.orders[i].hits;
  }
  return *this;
}

double chrf_score(const ChrfCounts& counts, const ChrfOptions& options) {
  const double factor = options.beta * options.beta;
  const auto used = std::span(counts.orders).first(options.char_order + options.word_order);
  if (options.eps_smoothing) {
    constexpr double kEps = 1e-16;
    double sum = 0;
    for (const auto& order : used) {
      const auto share = [&](std::uint64_t of) {
        return of > 0 ? static_cast<double>(order.hits) / static_cast<double>(of) : kEps;
      };
      const double precision = share(order.predicted), recall = share(order.wanted);
      const double both = factor * precision + recall;
      sum += both > 0 ? (1 + factor) * precision * recall / both : kEps;
    }
    return 100 * sum / static_cast<double>(used.size());
  }
  double precision = 0, recall = 0;
  int orders = 0;
  for (const auto& order : used) {
    if (order.predicted == 0 || order.wanted == 0) continue;
    precision += static_cast<double>(order.hits) / static_cast<double>(order.predicted);
    recall += static_cast<double>(order.hits) / static_cast<double>(order.wanted);
    ++orders;
  }
  if (orders == 0 || precision + recall == 0) return 0;
  precision /= orders;
  recall /= orders;
  return 100 * ((1 + factor) * precision * recall / (factor * precision + recall));
}

void ChrfCounter::read(std::string_view text, Side& side) {
  decode_utf8(text, codes_);
  if (options_.lowercase) unicode::lower(codes_);
  side.characters.clear();
  side.words.clear();
  const auto add_word = [&](std::span<const std::uint32_t> word) {
    std::string bytes;
    for (const auto c : word) append_utf8(c, bytes);
    side.words.push_back(
        words_.try_emplace(bytes, static_cast<std::uint32_t>(words_.size())).first->second);
  };
  // One mark at a word's end or, failing that, at its start is a word of its own.
  const auto part_word = [&](std::span<const std::uint32_t> word) {
    const auto size = word.size();
    const std::size_t first = size > 1 && is_ascii_punctuation(word.back())    ? size - 1
                              : size > 1 && is_ascii_punctuation(word.front()) ? 1
                                                                               : size;
    add_word(word.first(first));
    if (first < size) add_word(word.subspan(first));
  };
  for (std::size_t i = 0; i < codes_.size();) {
    if (unicode::is_space(codes_[i])) {
      if (options_.whitespace) side.characters.push_back(codes_[i]);
      ++i;
      continue;
    }
    const auto begin = i;
    while (i < codes_.size() && !unicode::is_space(codes_[i]))
      side.characters.push_back(codes_[i++]);
    if (options_.word_order > 0) part_word(std::span(codes_).subspan(begin, i - begin));
  }
}

void ChrfCounter::count_orders(const std::vector<std::uint32_t>& predicted,
                               const std::vector<std::uint32_t>& wanted,
                               std::span<ChrfCounts::Order> orders) {
  predicted_grams_.assign(predicted.size(), 0);
  wanted_grams_.assign(wanted.size(), 0);
  for (std::size_t n = 1; n <= orders.size(); ++n) {
    auto& order = orders[n - 1];
    order.wanted = ngrams(wanted.size(), n);
    order.predicted = order.wanted > 0 ? ngrams(predicted.size(), n) : 0;
    order.hits = 0;
    if (order.predicted == 0) {
      if (order.wanted == 0) return;
      continue;
    }
    // How often an n-gram of the reference is still to be found.
    names_.clear(predicted.size() + wanted.size());
    balance_.clear();
    for (std::size_t i = 0; i < order.wanted; ++i) {
      const auto gram = names_.name(wanted_grams_[i], wanted[i + n - 1]);
      wanted_grams_[i] = gram;
      if (gram == balance_.size()) balance_.push_back(0);
      ++balance_[gram];
    }
    for (std::size_t i = 0; i < order.predicted; ++i) {
      const auto gram = names_.name(predicted_grams_[i], predicted[i + n - 1]);
      predicted_grams_[i] = gram;
      if (gram >= balance_.size() || balance_[gram] == 0) continue;
      --balance_[gram];
      ++order.hits;
    }
  }
}

ChrfCounts ChrfCounter::count(std::string_view prediction,
                              std::span<const std::string_view> references) {
  words_.clear();
  read(prediction, predicted_);
  ChrfCounts best;
  double best_score = -1;
  for (const auto reference : references) {
    read(reference, wanted_);
    ChrfCounts counts;
    const auto orders = std::span(counts.orders);
    count_orders(predicted_.characters, wanted_.characters, orders.first(options_.char_order));
    count_orders(predicted_.words, wanted_.words,
                 orders.subspan(options_.char_order, options_.word_order));
    const double score = chrf_score(counts, options_);
    if (score > best_score) {
      best_score = score;
      best = counts;
    }
  }
  return best;
}

}  // namespace rwkvx
