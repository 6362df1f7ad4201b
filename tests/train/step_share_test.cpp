#include "train/step_share.h"

#include <gtest/gtest.h>

#include <numeric>

namespace rwkvx {
namespace {

TokenBatch batch_of(const std::vector<std::int64_t>& lengths, std::int64_t first) {
  TokenBatch batch;
  batch.lengths = lengths;
  const auto tokens = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
  for (std::int64_t i = 0; i < tokens; ++i) {
    batch.inputs.push_back(first + i);
    batch.targets.push_back(first + i + 1);
  }
  batch.weight = static_cast<double>(tokens);
  batch.position = first;
  return batch;
}

std::vector<std::int64_t> rows_of_each(const std::vector<TokenBatch>& batches, int ranks) {
  std::vector<std::int64_t> rows;
  for (int rank = 0; rank < ranks; ++rank) {
    rows.push_back(0);
    for (const auto& part : share_of(batches, rank, ranks))
      rows.back() += static_cast<std::int64_t>(part.lengths.size());
  }
  return rows;
}

TEST(StepShare, TheSharesTogetherAreTheBatches) {
  const std::vector<TokenBatch> batches = {batch_of({3, 5, 1, 7}, 100), batch_of({2, 2}, 200),
                                           batch_of({9}, 300)};
  for (int ranks = 1; ranks < 9; ++ranks) {
    std::vector<std::int64_t> inputs, lengths;
    double weight = 0;
    for (int rank = 0; rank < ranks; ++rank)
      for (const auto& part : share_of(batches, rank, ranks)) {
        inputs.insert(inputs.end(), part.inputs.begin(), part.inputs.end());
        lengths.insert(lengths.end(), part.lengths.begin(), part.lengths.end());
        weight += part.weight;
        EXPECT_EQ(part.inputs.front(), part.position + part.first_token);
        EXPECT_EQ(part.targets.front(), part.inputs.front() + 1);
      }
    EXPECT_EQ(lengths, (std::vector<std::int64_t>{3, 5, 1, 7, 2, 2, 9}));
    std::vector<std::int64_t> wanted;
    for (const auto& batch : batches)
      wanted.insert(wanted.end(), batch.inputs.begin(), batch.inputs.end());
    EXPECT_EQ(inputs, wanted) << ranks;
    EXPECT_EQ(weight, 29);
  }
}

TEST(StepShare, EqualSequencesAreSharedOutEvenly) {
  const auto batch = batch_of({8, 8, 8, 8}, 0);
  EXPECT_EQ(rows_of_each({batch}, 2), (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(rows_of_each({batch}, 3), (std::vector<std::int64_t>{1, 2, 1}));
  EXPECT_EQ(rows_of_each({batch}, 4), (std::vector<std::int64_t>{1, 1, 1, 1}));
  EXPECT_EQ(rows_of_each({batch, batch, batch}, 2), (std::vector<std::int64_t>{6, 6}));
  // Whole batches where there are as many for each.
  const auto share = share_of({batch, batch}, 1, 2);
  ASSERT_EQ(share.size(), 1u);
  EXPECT_EQ(share[0].lengths.size(), 4u);
}

TEST(StepShare, WeightsOfAPartAreItsOwn) {
  auto batch = batch_of({2, 2}, 0);
  batch.weights = {0, 1, 0, 0};
  batch.weight = 1;
  EXPECT_EQ(share_of({batch}, 0, 2)[0].weight, 1);
  EXPECT_EQ(share_of({batch}, 1, 2)[0].weight, 0);
}

}  // namespace
}  // namespace rwkvx
