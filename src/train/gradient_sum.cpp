#include "train/gradient_sum.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <limits>
#include <map>
#include <string_view>

namespace rwkvx {
namespace {

// Numbers of a bucket at least: smaller ones cost more messages than they save time.
constexpr std::int64_t kBucketNumbers = 1 << 16;
// Between two parameters in the flat buffer there are fewer numbers of padding.
constexpr std::int64_t kMostPadding = 16;

constexpr std::int64_t kLast = std::numeric_limits<std::int64_t>::max(), kFirst = -1;

// The block whose backward pass completes a gradient; kLast: that of the head, before all blocks.
std::int64_t layer_of(const Optimizer::Gradient& gradient) {
  constexpr std::string_view kBlocks = "blocks.";
  const std::string_view name = gradient.name;
  // ln0 normalizes the embedding, whose backward pass comes last.
  if (gradient.extra || name.starts_with("blocks.0.ln0.")) return kFirst;
  if (name.starts_with("head.") || name.starts_with("ln_out.")) return kLast;
  if (!name.starts_with(kBlocks)) return kFirst;
  std::int64_t layer = kFirst;
  std::from_chars(name.data() + kBlocks.size(), name.data() + name.size(), layer);
  return layer;
}

}  // namespace

GradientSum::GradientSum(Ranks& ranks, const std::vector<Optimizer::Gradient>& gradients)
    : ranks_(ranks) {
  std::map<std::int64_t, std::vector<Range>, std::greater<>> by_layer;
  for (const auto& one : gradients) by_layer[layer_of(one)].push_back({one.values, one.count});
  std::int64_t numbers = kBucketNumbers;
  for (auto& [layer, ranges] : by_layer) {
    if (numbers >= kBucketNumbers) {
      buckets_.emplace_back();
      numbers = 0;
    }
    auto& bucket = buckets_.back();
    bucket.layer = layer;
    bucket.ranges.insert(bucket.ranges.end(), ranges.begin(), ranges.end());
    for (const auto& range : ranges) numbers += range.count;
  }
  // Neighbors become one range, with what is between them, which is zero.
  for (auto& bucket : buckets_) {
    std::ranges::sort(bucket.ranges, {}, &Range::values);
    std::vector<Range> merged;
    for (const auto& range : bucket.ranges) {
      if (!merged.empty() &&
          range.values - (merged.back().values + merged.back().count) < kMostPadding)
        merged.back().count = range.values + range.count - merged.back().values;
      else
        merged.push_back(range);
    }
    bucket.ranges = std::move(merged);
  }
}

void GradientSum::complete(std::int64_t layer) {
  while (begun_ < buckets_.size() && buckets_[begun_].layer >= layer) begin(buckets_[begun_]);
}

void GradientSum::finish() {
  while (begun_ < buckets_.size()) begin(buckets_[begun_]);
  begun_ = 0;
  ranks_.finish_sums();
}

void GradientSum::begin(const Bucket& bucket) {
  ++begun_;
  for (const auto& range : bucket.ranges) ranks_.begin_sum(range.values, range.count);
}

}  // namespace rwkvx
