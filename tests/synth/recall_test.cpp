#include "rwkvx/synth/recall.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

namespace rwkvx {
namespace {

TEST(Recall, EachKeyComesAgainOnceWithItsValue) {
  const RecallShape shape{.pairs = 8, .tokens = 64, .vocab = 256};
  for (std::uint64_t index = 0; index < 100; ++index) {
    const auto one = recall_sequence(shape, 1, index);
    ASSERT_EQ(one.ids.size(), 64u);
    ASSERT_EQ(one.answers.size(), 8u);
    EXPECT_TRUE(std::ranges::adjacent_find(one.answers) == one.answers.end());
    std::map<std::int64_t, std::int64_t> value_of;
    for (std::size_t i = 0; i < 16; i += 2) {
      EXPECT_LT(one.ids[i], 128);
      EXPECT_GE(one.ids[i + 1], 128);
      value_of[one.ids[i]] = one.ids[i + 1];
    }
    EXPECT_EQ(value_of.size(), 8u);
    for (const auto at : one.answers) {
      ASSERT_GE(at, 17);
      const auto key = one.ids[static_cast<std::size_t>(at - 1)];
      ASSERT_TRUE(value_of.contains(key));
      EXPECT_EQ(one.ids[static_cast<std::size_t>(at)], value_of.at(key));
      value_of.erase(key);
    }
    for (const auto id : one.ids) EXPECT_LT(id, 256);
  }
}

TEST(Recall, AFunctionOfSeedAndIndexWithMoreQuestionsNearBy) {
  const RecallShape shape{.pairs = 4, .tokens = 256, .vocab = 8192};
  EXPECT_EQ(recall_sequence(shape, 3, 5).ids, recall_sequence(shape, 3, 5).ids);
  EXPECT_NE(recall_sequence(shape, 3, 5).ids, recall_sequence(shape, 3, 6).ids);
  EXPECT_NE(recall_sequence(shape, 3, 5).ids, recall_sequence(shape, 4, 5).ids);
  int near = 0, far = 0;
  for (std::uint64_t index = 0; index < 200; ++index)
    for (const auto at : recall_sequence(shape, 1, index).answers) (at < 132 ? near : far) += 1;
  EXPECT_GT(near, 3 * far);
}

}  // namespace
}  // namespace rwkvx
