#include "rwkvx/metrics/bootstrap.h"

#include <algorithm>
#include <bit>

#include "rwkvx/base/error.h"
#include "rwkvx/base/statistics.h"

namespace rwkvx {

std::uint32_t NumpyDraws::below(std::uint32_t n) {
  const std::uint32_t last = n - 1;
  if (last == 0) return 0;
  const std::uint32_t mask = ~std::uint32_t{0} >> std::countl_zero(last);
  for (;;) {
    const auto draw = static_cast<std::uint32_t>(engine_()) & mask;
    if (draw <= last) return draw;
  }
}

ScoreInterval bootstrap(std::span<const RougeScore> scores, double confidence, std::size_t samples,
                        NumpyDraws& draws) {
  if (scores.empty() || samples == 0)
    throw DataError("bootstrap", "expected at least one score and one resample, got " +
                                     std::to_string(scores.size()) + " and " +
                                     std::to_string(samples));
  const auto count = static_cast<std::uint32_t>(scores.size());
  std::vector<double> precision, recall, f1;
  for (std::size_t sample = 0; sample < samples; ++sample) {
    RougeScore sum;
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto& score = scores[draws.below(count)];
      sum.precision += score.precision;
      sum.recall += score.recall;
      sum.f1 += score.f1;
    }
    precision.push_back(sum.precision / count);
    recall.push_back(sum.recall / count);
    f1.push_back(sum.f1 / count);
  }
  for (auto* means : {&precision, &recall, &f1}) std::sort(means->begin(), means->end());
  const auto at = [&](double q) {
    return RougeScore{quantile(precision, q), quantile(recall, q), quantile(f1, q)};
  };
  return {at((1 - confidence) / 2), at(0.5), at((1 + confidence) / 2)};
}

}  // namespace rwkvx
