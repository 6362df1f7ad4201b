#include "train/flat_tasks.h"

#include <gtest/gtest.h>

namespace rwkvx {
namespace {

std::vector<std::size_t> cut(const std::vector<int64_t>& counts, int parts) {
  return cut_into_parts(counts, parts, [](int64_t count) { return count; });
}

TEST(FlatTasks, AreCutIntoPartsOfAboutAsManyNumbers) {
  using Begins = std::vector<std::size_t>;
  EXPECT_EQ(cut({5, 5, 5, 5}, 2), (Begins{0, 2, 4}));
  EXPECT_EQ(cut({5, 5, 5, 5}, 1), (Begins{0, 4}));
  EXPECT_EQ(cut({1, 1, 10, 1, 1}, 2), (Begins{0, 2, 5}));
  EXPECT_EQ(cut({7}, 3), (Begins{0, 0, 1, 1}));  // some have nothing
  EXPECT_EQ(cut({}, 2), (Begins{0, 0, 0}));
}

}  // namespace
}  // namespace rwkvx
