// Pieces of a flat buffer that threads take one at a time.
#pragma once

#include <algorithm>
#include <vector>

#include "train/update_rule.h"

namespace rwkvx {

// Numbers of a task. Fixed, so that sums do not depend on the threads.
inline constexpr int64_t kTaskNumbers = 1 << 16;

struct FlatTask {
  int64_t offset = 0, count = 0;
  const Segment* segment = nullptr;
};

// The segments are kept by reference.
inline std::vector<FlatTask> flat_tasks(const std::vector<Segment>& segments) {
  std::vector<FlatTask> tasks;
  for (const auto& segment : segments)
    for (int64_t begin = 0; begin < segment.row.count(); begin += kTaskNumbers)
      tasks.push_back(
          {segment.offset + begin, std::min(kTaskNumbers, segment.row.count() - begin), &segment});
  return tasks;
}

}  // namespace rwkvx
