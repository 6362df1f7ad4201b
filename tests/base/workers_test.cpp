#include "rwkvx/base/workers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>

namespace rwkvx {
namespace {

TEST(Workers, DoEveryJobOnceOnAnyNumberOfThreads) {
  for (const std::int64_t threads : {1, 2, 5}) {
    std::vector<int> done(100, 0);
    std::atomic<int> made{0};
    {
      Workers workers(threads, [&] {
        ++made;
        return [&](std::size_t job) { ++done[job]; };
      });
      for (std::size_t i = 0; i < done.size(); ++i) workers.give(i);
      for (std::size_t i = 0; i < done.size(); ++i) workers.wait(i);
    }
    EXPECT_EQ(done, std::vector<int>(100, 1)) << threads;
    EXPECT_EQ(made, threads);
  }
}

TEST(Workers, AJobsErrorIsThrownWhereItIsWaitedFor) {
  for (const std::int64_t threads : {1, 3}) {
    Workers workers(threads, [] {
      return [](std::size_t job) {
        if (job % 2 == 1) throw std::runtime_error(std::to_string(job));
      };
    });
    for (std::size_t i = 0; i < 6; ++i) workers.give(i);
    for (const std::size_t job : {4, 0, 2}) EXPECT_NO_THROW(workers.wait(job));
    for (const std::size_t job : {5, 1, 3}) {
      try {
        workers.wait(job);
        ADD_FAILURE() << job;
      } catch (const std::runtime_error& error) {
        EXPECT_EQ(error.what(), std::to_string(job));
      }
    }
    workers.give(4);  // the same number once more
    EXPECT_NO_THROW(workers.wait(4));
  }
}

TEST(Workers, JobsThatNobodyWaitsForAreDropped) {
  std::atomic<int> begun{0}, ended{0};
  {
    Workers workers(2, [&] {
      return [&](std::size_t) {
        ++begun;
        ++ended;
      };
    });
    for (std::size_t i = 0; i < 1000; ++i) workers.give(i);
  }
  EXPECT_EQ(begun, ended);
}

TEST(Workers, ThreadCountZeroIsOnePerCore) {
  EXPECT_EQ(thread_count(7), 7);
  EXPECT_GE(thread_count(0), 1);
}

}  // namespace
}  // namespace rwkvx
