#include "train/step_share.h"

#include <cstdint>

namespace rwkvx {

std::vector<TokenBatch> share_of(const std::vector<TokenBatch>& batches, int rank, int ranks) {
  std::int64_t all = 0, before = 0;
  for (const auto& batch : batches)
    for (const auto length : batch.lengths) all += length;
  std::vector<TokenBatch> share;
  for (const auto& batch : batches) {
    std::size_t first = 0, end = 0;
    for (std::size_t i = 0; i < batch.lengths.size(); ++i) {
      // A sequence belongs to the rank in whose stretch its middle lies.
      const auto middle = 2 * before + batch.lengths[i];
      const bool own = middle * ranks / (2 * all) == rank;
      before += batch.lengths[i];
      if (!own) continue;
      if (end == 0) first = i;
      end = i + 1;
    }
    if (end > first) share.push_back(part_of(batch, first, end));
  }
  return share;
}

}  // namespace rwkvx
