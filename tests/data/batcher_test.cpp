#include "rwkvx/data/batcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "rwkvx/base/error.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;

// A file whose token number t is t, so that a window tells where it lies.
class Counted {
 public:
  explicit Counted(std::int64_t tokens) {
    std::vector<TokenId> ids(static_cast<std::size_t>(tokens - 1));
    std::iota(ids.begin(), ids.end(), 0);
    TokenFileWriter writer(scratch_ / "text", tokens);
    writer.add(ids);
    writer.end_document(static_cast<TokenId>(tokens - 1));
    writer.commit();
    file_ = std::make_unique<TokenFile>(scratch_ / "text");
  }
  const TokenFile& file() const { return *file_; }

 private:
  ScratchDirectory scratch_;
  std::unique_ptr<TokenFile> file_;
};

using Ids = std::vector<std::int64_t>;

std::pair<Ids, Ids> batch(const Batcher& batcher, std::int64_t index, std::int64_t size) {
  Ids inputs(static_cast<std::size_t>(size), -1), targets = inputs;
  batcher.fill(index, inputs.data(), targets.data());
  return {inputs, targets};
}

TEST(Permutation, VisitsEachNumberOnce) {
  for (const std::uint64_t size : {1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 1000}) {
    for (const std::uint64_t key : {0, 1, 77}) {
      const Permutation permutation(size, key);
      std::set<std::uint64_t> seen;
      for (std::uint64_t i = 0; i < size; ++i) seen.insert(permutation(i));
      EXPECT_EQ(seen.size(), size);
      EXPECT_LT(*seen.rbegin(), size);
    }
  }
}

TEST(Permutation, DiffersByKeyAndIsNotInOrder) {
  const Permutation one(1000, 1), two(1000, 2);
  int same = 0, fixed = 0, rising = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    same += one(i) == two(i);
    fixed += one(i) == i;
    rising += i > 0 && one(i) > one(i - 1);
  }
  EXPECT_LT(same, 20);
  EXPECT_LT(fixed, 20);
  EXPECT_NEAR(rising, 500, 80);
}

TEST(Permutation, WorksForVeryManyNumbers) {
  const std::uint64_t size = (std::uint64_t{1} << 50) + 12345;
  const Permutation permutation(size, 3);
  std::set<std::uint64_t> seen;
  for (std::uint64_t i = 0; i < 1000; ++i) seen.insert(permutation(size - 1 - i));
  EXPECT_EQ(seen.size(), 1000u);
  EXPECT_LT(*seen.rbegin(), size);
  EXPECT_GT(*seen.rbegin(), size / 2);
}

TEST(Batcher, VisitsEveryWindowOnceInAnEpoch) {
  for (const std::int64_t tokens : {33, 64, 65, 101, 1000}) {
    for (const std::int64_t ctx_len : {1, 7, 32}) {
      const Counted text(tokens);
      const Batcher batcher(text.file(), ctx_len, 3, 5);
      ASSERT_EQ(batcher.windows(), tokens / ctx_len);
      for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
        std::vector<int> seen(static_cast<std::size_t>(tokens));
        for (std::int64_t i = 0; i < batcher.windows(); ++i) {
          const std::int64_t offset = batcher.offset(epoch * batcher.windows() + i);
          for (std::int64_t t = 0; t < ctx_len; ++t)
            ++seen[static_cast<std::size_t>((offset + t) % tokens)];
        }
        EXPECT_EQ(*std::max_element(seen.begin(), seen.end()), 1) << tokens << " / " << ctx_len;
        EXPECT_EQ(std::accumulate(seen.begin(), seen.end(), std::int64_t{0}),
                  batcher.windows() * ctx_len);
      }
    }
  }
}

TEST(Batcher, GivesEachInputTheTokenAfterItAsTarget) {
  const std::int64_t tokens = 101, ctx_len = 10, rows = 4;
  const Counted text(tokens);
  const Batcher batcher(text.file(), ctx_len, rows, 1);
  for (std::int64_t index = 0; index < 30; ++index) {
    const auto [inputs, targets] = batch(batcher, index, rows * ctx_len);
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t offset = batcher.offset(index * rows + row);
      for (std::int64_t t = 0; t < ctx_len; ++t) {
        const auto at = static_cast<std::size_t>(row * ctx_len + t);
        EXPECT_EQ(inputs[at], (offset + t) % tokens);
        EXPECT_EQ(targets[at], (offset + t + 1) % tokens);
      }
    }
  }
}

TEST(Batcher, NeedsOnlyTheIndexToResume) {
  const Counted text(500);
  const Batcher straight(text.file(), 16, 4, 9);
  std::vector<std::pair<Ids, Ids>> batches;
  for (std::int64_t index = 0; index < 40; ++index) batches.push_back(batch(straight, index, 64));
  const Batcher resumed(text.file(), 16, 4, 9);
  for (std::int64_t index = 39; index >= 20; --index)
    EXPECT_EQ(batch(resumed, index, 64), batches[static_cast<std::size_t>(index)]);
}

TEST(Batcher, ShufflesDifferentlyInEachEpochAndForEachSeed) {
  const Counted text(2000);
  const Batcher one(text.file(), 16, 4, 1), two(text.file(), 16, 4, 2);
  int same_seed = 0, same_epoch = 0;
  for (std::int64_t i = 0; i < one.windows(); ++i) {
    same_seed += one.offset(i) == two.offset(i);
    same_epoch += one.offset(i) == one.offset(i + one.windows());
  }
  EXPECT_LT(same_seed, 6);
  EXPECT_LT(same_epoch, 6);
}

TEST(Batcher, SaysWhenTheTextIsShorterThanTheContext) {
  const Counted text(33);
  EXPECT_NO_THROW(Batcher(text.file(), 32, 1, 1));
  try {
    const Batcher batcher(text.file(), 33, 1, 1);
    FAIL() << "33 tokens cannot fill a window of 33 and its targets";
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr("has 33 tokens"));
    EXPECT_THAT(error.what(), HasSubstr("at least 34"));
  }
}

TEST(EvaluationBatches, PredictEachTokenOnceInOrder) {
  for (const std::int64_t tokens : {1, 2, 16, 17, 63, 64, 65, 100}) {
    for (const std::int64_t max_tokens : {0, 1, 40, 1000}) {
      for (const std::int64_t rows : {1, 3}) {
        if (tokens < 2) continue;  // Counted needs an id beside the end
        const Counted text(tokens);
        const EvaluationBatches batches(text.file(), 16, rows, max_tokens);
        const std::int64_t wanted = max_tokens == 0 ? tokens : std::min(tokens, max_tokens);
        EXPECT_EQ(batches.targets(), wanted);
        Ids all;
        for (std::int64_t index = 0; index < batches.batches(); ++index) {
          const auto shape = batches.shape(index);
          EXPECT_LE(shape.rows, rows);
          EXPECT_LE(shape.length, 16);
          const auto size = static_cast<std::size_t>(shape.rows * shape.length);
          Ids inputs(size), targets(size);
          batches.fill(index, inputs.data(), targets.data());
          for (std::size_t i = 0; i < size; ++i) {
            EXPECT_EQ(inputs[i], (targets[i] + tokens - 1) % tokens);
            all.push_back(targets[i]);
          }
        }
        Ids expected(static_cast<std::size_t>(wanted));
        std::iota(expected.begin(), expected.end(), 0);
        EXPECT_EQ(all, expected);
      }
    }
  }
}

}  // namespace
}  // namespace rwkvx
