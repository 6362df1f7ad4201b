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

// sacrebleu's settings of the same names.
struct ChrfOptions {
  std::size_t char_order = 6;  // n-grams of 1 to so many characters, at most kMostCharOrder
  std::size_t word_order = 0;  // and of 1 to so many words, at most kMostWordOrder; chrF++ has 2
  double beta = 2;             // how many times recall weighs precision
  bool whitespace = false;     // white space counts as characters
  bool lowercase = false;
  // The mean of the orders' F scores, those without n-grams as if they had 1e-16, in place of F of
  // the mean precision and recall over the orders that both sides have.
  bool eps_smoothing = false;
};

// What a score is made of. The counts of a corpus are the sums of those of its segments.
struct ChrfCounts {
  static constexpr std::size_t kMostCharOrder = 16, kMostWordOrder = 4;
  static constexpr std::size_t kMostOrders = kMostCharOrder + kMostWordOrder;
  struct Order {
    std::uint64_t predicted = 0, wanted = 0, hits = 0;
    friend bool operator==(const Order&, const Order&) = default;
  };
  std::array<Order, kMostOrders> orders{};  // char_order of characters, then word_order of words
  ChrfCounts& operator+=(const ChrfCounts& other);
  friend bool operator==(const ChrfCounts&, const ChrfCounts&) = default;
};

// From 0 to 100. M. Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015
// and "chrF++: words helping character n-grams", WMT 2017. `options` are those of the counts.
double chrf_score(const ChrfCounts& counts, const ChrfOptions& options);

// Counts segments: of several references the one with the highest score, the first of equal ones.
// Any bytes will do as text; each that is not UTF-8 is a character of its own. Not thread-safe.
class ChrfCounter {
 public:
  explicit ChrfCounter(const ChrfOptions& options = {}) : options_(options) {}
  ChrfCounts count(std::string_view prediction, std::span<const std::string_view> references);

 private:
  struct Side {
    std::vector<std::uint32_t> characters, words;
  };
  void read(std::string_view text, Side& side);
  void count_orders(const std::vector<std::uint32_t>& predicted,
                    const std::vector<std::uint32_t>& wanted, std::span<ChrfCounts::Order> orders);
  ChrfOptions options_;
  std::unordered_map<std::string, std::uint32_t> words_;
  Side predicted_, wanted_;
  NgramNames names_;
  std::vector<std::uint32_t> codes_, predicted_grams_, wanted_grams_, balance_;
};

}  // namespace rwkvx
