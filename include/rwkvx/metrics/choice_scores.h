// Scores of answers that a model chooses by their likelihood.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace rwkvx {

// One choice after its prompt. Lengths are at least 1.
struct ChoiceLikelihood {
  double logprob = 0;  // natural log
  std::int64_t tokens = 1, characters = 1, bytes = 1;
  bool greedy = false;  // each token is the model's most likely one
};

// What a choice's log-likelihood is divided by: nothing, its characters, bytes or tokens. The
// first three are lm-evaluation-harness 0.4.13's acc, acc_norm and acc_bytes.
inline constexpr std::array<std::string_view, 4> kChoiceRules = {"acc", "acc_norm", "acc_bytes",
                                                                 "acc_tokens"};
// The choice with the highest log-likelihood by each rule, of equal ones the first; there must be
// one.
std::array<std::size_t, kChoiceRules.size()> best_choices(
    std::span<const ChoiceLikelihood> choices);

// exp(logprob) of each, divided by their sum.
std::vector<double> choice_probabilities(std::span<const ChoiceLikelihood> choices);

// The sum over the choices of (probability - 1 for the answer, else 0)², lm-evaluation-harness'
// brier_score of one item. G. W. Brier, Monthly Weather Review 78 (1950).
double brier_score(std::span<const double> probabilities, std::size_t answer);

// Whether probabilities mean what they say: items by the probability of the chosen answer, in bins
// of equal width (from, to]; 0 is in the first.
class Calibration {
 public:
  struct Bin {
    double from = 0, to = 0;
    std::int64_t items = 0, right = 0;
    double confidence = 0;  // sum of the probabilities
  };
  // At least one bin.
  explicit Calibration(std::int64_t bins);
  void add(double probability, bool right);
  const std::vector<Bin>& bins() const { return bins_; }
  // The mean over the items of |share of right ones - mean probability| of their bin. C. Guo et
  // al., "On calibration of modern neural networks", ICML 2017, eq. 3.
  double expected_error() const;

 private:
  std::vector<Bin> bins_;
};

}  // namespace rwkvx
