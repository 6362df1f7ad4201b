#include "rwkvx/synth/recall.h"

#include <algorithm>

#include "rwkvx/base/splitmix64.h"
#include "synth/draw.h"

namespace rwkvx {
namespace {

// Of the lists of numbers that tasks have; see SynthTask::number.
constexpr std::uint64_t kTask = 4;
constexpr std::size_t kFine = std::size_t{1} << 30;  // steps of a random share

// `count` different numbers below `size`, number n with a probability in proportion to 1 / (n + 1).
std::vector<std::size_t> near_ones(Draw& draw, std::size_t count, std::size_t size) {
  std::vector<double> weights(size);
  double sum = 0;
  for (std::size_t i = 0; i < size; ++i) sum += weights[i] = 1 / static_cast<double>(i + 1);
  std::vector<std::size_t> chosen;
  while (chosen.size() < count) {
    double at = sum * static_cast<double>(draw.below(kFine)) / static_cast<double>(kFine);
    std::size_t i = 0;
    while (i + 1 < size && (weights[i] == 0 || at >= weights[i])) at -= weights[i++];
    while (weights[i] == 0) --i;  // rounding at the end
    sum -= weights[i];
    weights[i] = 0;
    chosen.push_back(i);
  }
  return chosen;
}

}  // namespace

RecallSequence recall_sequence(const RecallShape& shape, std::uint64_t seed, std::uint64_t index) {
  Draw draw(splitmix64(splitmix64(kTask, seed), index));
  const auto size = [](std::int64_t value) { return static_cast<std::size_t>(value); };
  const auto pairs = size(shape.pairs), half = size(shape.vocab) / 2;
  const auto places = (size(shape.tokens) - 2 * pairs) / 2;
  RecallSequence sequence;
  auto& ids = sequence.ids;
  std::vector<std::int64_t> keys, values;
  while (keys.size() < pairs) {
    const auto key = static_cast<std::int64_t>(draw.below(half));
    if (std::ranges::find(keys, key) != keys.end()) continue;
    keys.push_back(key);
    values.push_back(static_cast<std::int64_t>(half + draw.below(half)));
    ids.insert(ids.end(), {keys.back(), values.back()});
  }
  while (ids.size() < size(shape.tokens))
    ids.push_back(static_cast<std::int64_t>(draw.below(size(shape.vocab))));
  const auto where = near_ones(draw, pairs, places);
  for (std::size_t i = 0; i < pairs; ++i) {
    const auto at = 2 * pairs + 2 * where[i];
    ids[at] = keys[i], ids[at + 1] = values[i];
    sequence.answers.push_back(static_cast<std::int64_t>(at + 1));
  }
  std::ranges::sort(sequence.answers);
  return sequence;
}

}  // namespace rwkvx
