// Pieces of a flat buffer that threads take one at a time.
#pragma once

#include <algorithm>
#include <cstddef>
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

// Cuts a list into parts of about as many numbers each: the first item of each part, and the end.
// `count_of(item)` are an item's numbers.
template <class Item, class Count>
std::vector<std::size_t> cut_into_parts(const std::vector<Item>& items, int parts,
                                        const Count& count_of) {
  int64_t all = 0, before = 0;
  for (const auto& item : items) all += count_of(item);
  std::vector<std::size_t> begins{0};
  for (std::size_t i = 0; i < items.size(); ++i) {
    // An item belongs to the part in which its middle lies.
    const auto middle = static_cast<double>(before) + 0.5 * static_cast<double>(count_of(items[i]));
    while (static_cast<double>(begins.size()) * static_cast<double>(all) <=
               middle * static_cast<double>(parts) &&
           begins.size() < static_cast<std::size_t>(parts))
      begins.push_back(i);
    before += count_of(items[i]);
  }
  while (begins.size() <= static_cast<std::size_t>(parts)) begins.push_back(items.size());
  return begins;
}

// The numbers from the first to the last task of each part.
inline std::vector<FlatRange> ranges_of(const std::vector<FlatTask>& tasks,
                                        const std::vector<std::size_t>& begins) {
  std::vector<FlatRange> ranges;
  for (std::size_t p = 0; p + 1 < begins.size(); ++p) {
    if (begins[p] == begins[p + 1]) {
      ranges.push_back({});
      continue;
    }
    const auto& first = tasks[begins[p]];
    const auto& last = tasks[begins[p + 1] - 1];
    ranges.push_back({first.offset, last.offset + last.count - first.offset});
  }
  return ranges;
}

}  // namespace rwkvx
