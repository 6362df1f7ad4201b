#include "rwkvx/metrics/choice_scores.h"

#include <algorithm>
#include <cmath>

namespace rwkvx {

std::array<std::size_t, kChoiceRules.size()> best_choices(
    std::span<const ChoiceLikelihood> choices) {
  const auto best = [&](const auto& score) {
    return static_cast<std::size_t>(
        std::max_element(choices.begin(), choices.end(),
                         [&](const auto& a, const auto& b) { return score(a) < score(b); }) -
        choices.begin());
  };
  using One = const ChoiceLikelihood&;
  return {best([](One one) { return one.logprob; }),
          best([](One one) { return one.logprob / static_cast<double>(one.characters); }),
          best([](One one) { return one.logprob / static_cast<double>(one.bytes); }),
          best([](One one) { return one.logprob / static_cast<double>(one.tokens); })};
}

std::vector<double> choice_probabilities(std::span<const ChoiceLikelihood> choices) {
  const double most = choices[best_choices(choices)[0]].logprob;
  std::vector<double> probabilities;
  double sum = 0;
  for (const auto& one : choices) {
    probabilities.push_back(std::exp(one.logprob - most));
    sum += probabilities.back();
  }
  for (auto& probability : probabilities) probability /= sum;
  return probabilities;
}

double brier_score(std::span<const double> probabilities, std::size_t answer) {
  double sum = 0;
  for (std::size_t k = 0; k < probabilities.size(); ++k) {
    const double away = probabilities[k] - (k == answer ? 1 : 0);
    sum += away * away;
  }
  return sum;
}

Calibration::Calibration(std::int64_t bins) : bins_(static_cast<std::size_t>(bins)) {
  const auto count = static_cast<double>(bins);
  for (std::size_t k = 0; k < bins_.size(); ++k) {
    bins_[k].from = static_cast<double>(k) / count;
    bins_[k].to = static_cast<double>(k + 1) / count;
  }
}

void Calibration::add(double probability, bool right) {
  const auto bin = std::lower_bound(bins_.begin(), bins_.end() - 1, probability,
                                    [](const Bin& one, double value) { return one.to < value; });
  ++bin->items;
  bin->right += right ? 1 : 0;
  bin->confidence += probability;
}

double Calibration::expected_error() const {
  double away = 0;
  std::int64_t items = 0;
  for (const auto& bin : bins_) {
    away += std::abs(static_cast<double>(bin.right) - bin.confidence);
    items += bin.items;
  }
  return items == 0 ? 0 : away / static_cast<double>(items);
}

}  // namespace rwkvx
