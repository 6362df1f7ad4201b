// chrF and chrF++ as sacrebleu 2.6.0 computes them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "rwkvx/metrics/ngram_names.h"

namespace rwkvx {

// What a score is made of. The counts of a corpus are the sums of those of its segments.
struct ChrfCounts {
  static constexpr std::size_t kCharOrders = 6, kMostOrders = 8;
  struct Order {
    std::uint64_t predicted = 0, wanted = 0, hits = 0;
    friend bool operator==(const Order&, const Order&) = default;
  };
  std::array<Order, kMostOrders> orders{};  // n-grams of 1 to 6 characters, then those of words
  ChrfCounts& operator+=(const ChrfCounts& other);
  friend bool operator==(const ChrfCounts&, const ChrfCounts&) = default;
};

// From 0 to 100. M. Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015
// and "chrF++: words helping character n-grams", WMT 2017, with beta 2: mean precision and recall
// over the orders that both sides have.
double chrf_score(const ChrfCounts& counts);

// Counts segments: of several references the one with the highest score, the first of equal ones.
// `word_orders` is 0 for chrF and 2 for chrF++. White space does not count as characters. Any bytes
// will do as text; each that is not UTF-8 is a character of its own. Not thread-safe.
class ChrfCounter {
 public:
  explicit ChrfCounter(std::size_t word_orders = 0, bool lower_case = false)
      : word_orders_(word_orders), lower_case_(lower_case) {}
  ChrfCounts count(std::string_view prediction, std::span<const std::string_view> references);

 private:
  struct Side {
    std::vector<std::uint32_t> characters, words;
  };
  void read(std::string_view text, Side& side);
  void count_orders(const std::vector<std::uint32_t>& predicted,
                    const std::vector<std::uint32_t>& wanted, std::span<ChrfCounts::Order> orders);
  std::size_t word_orders_;
  bool lower_case_;
  std::unordered_map<std::string, std::uint32_t> words_;
  Side predicted_, wanted_;
  NgramNames names_;
  std::vector<std::uint32_t> codes_, predicted_grams_, wanted_grams_, balance_;
};

}  // namespace rwkvx
