// Sums the gradients of all ranks while the backward pass still computes.
#pragma once

#include <cstdint>
#include <vector>

#include "rwkvx/train/optimizer.h"
#include "train/ranks.h"

namespace rwkvx {

// The gradients in buckets, in the order in which a backward pass completes them: the head, the
// blocks from the last to the first, then the embedding and what is no parameter of the model. All
// ranks have the same buckets and sum them in this order, whenever each has completed them.
class GradientSum {
 public:
  GradientSum(Ranks& ranks, const std::vector<Optimizer::Gradient>& gradients);
  // This rank's gradients of the block, and of all after it, are complete.
  void complete(std::int64_t layer);
  // All are; returns when they are summed.
  void finish();
  std::size_t buckets() const { return buckets_.size(); }

 private:
  struct Range {
    float* values = nullptr;
    std::int64_t count = 0;
  };
  struct Bucket {
    std::int64_t layer = 0;  // complete with this one
    std::vector<Range> ranges;
  };
  void begin(const Bucket& bucket);
  Ranks& ranks_;
  std::vector<Bucket> buckets_;
  std::size_t begun_ = 0;
};

}  // namespace rwkvx
