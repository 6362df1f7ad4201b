// Threads that meet: nothing is lost or seen too early, and their number follows the machine.
#include "rwkvx/kernels/team.h"

#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace rwkvx {
namespace {

using std::chrono::milliseconds;

// Each phase needs the whole of the one before it.
std::vector<std::int64_t> many_phases(int threads, std::int64_t count) {
  std::vector<std::int64_t> a(static_cast<std::size_t>(count), 1), b(a);
  run_team(threads, [&](const Worker& worker) {
    for (int phase = 0; phase < 50; ++phase) {
      const auto& from = phase % 2 == 0 ? a : b;
      auto& to = phase % 2 == 0 ? b : a;
      const auto [first, last] = worker.part(count, 3);
      for (std::int64_t i = first; i < last; ++i) {
        const auto at = [&](std::int64_t j) {
          return from[static_cast<std::size_t>((i + j) % count)];
        };
        to[static_cast<std::size_t>(i)] = (at(0) + at(count / 2) + at(count - 1)) % 1'000'003;
      }
      worker.meet();
    }
  });
  return a;
}

TEST(Team, PhasesSeeWhatWasWrittenBeforeTheMeeting) {
  const auto wanted = many_phases(1, 100);
  for (int round = 0; round < 20; ++round)
    for (const int threads : {2, 3, 1, 7}) ASSERT_EQ(many_phases(threads, 100), wanted) << threads;
}

TEST(Team, PartsCoverEverythingOnce) {
  for (const int threads : {1, 2, 5}) {
    std::mutex mutex;
    std::vector<int> done(103, 0);
    std::set<int> ids;
    int members = 0;
    run_team(threads, [&](const Worker& worker) {
      const std::lock_guard lock(mutex);
      const auto [first, last] = worker.part(103, 10);
      for (auto i = first; i < last; ++i) ++done[static_cast<std::size_t>(i)];
      ids.insert(worker.id);
      members = worker.threads;
    });
    EXPECT_EQ(done, std::vector<int>(103, 1));
    EXPECT_EQ(static_cast<int>(ids.size()), members);
    EXPECT_LE(members, threads);
    EXPECT_EQ(*ids.rbegin(), members - 1);
  }
}

// Several works without a meeting between them.
TEST(Team, SharedPiecesCoverEverythingOnce) {
  for (const int threads : {1, 2, 5})
    for (int round = 0; round < 20; ++round) {
      const std::vector<std::int64_t> counts = {103, 0, 1, 9, 10, 1000, 200'000};
      std::vector<std::vector<int>> done;
      for (const auto count : counts) done.emplace_back(static_cast<std::size_t>(count), 0);
      run_team(threads, [&](const Worker& worker) {
        for (std::size_t k = 0; k < counts.size(); ++k)
          worker.share(counts[k], 3, [&](std::int64_t first, std::int64_t last) {
            EXPECT_LT(first, last);
            EXPECT_EQ(first % 3, 0);
            for (auto i = first; i < last; ++i) ++done[k][static_cast<std::size_t>(i)];
          });
      });
      for (const auto& one : done) ASSERT_EQ(one, std::vector<int>(one.size(), 1)) << threads;
    }
}

std::vector<std::int64_t> ends(Range range) { return {range.first, range.last}; }

TEST(SharedWork, PiecesAreHalvesOfWhatIsLeft) {
  SharedWork work;
  work.begin(2);
  const auto take = [&](int id, std::uint32_t number) {
    return ends(work.take(id, 2, number, 16));
  };
  using Ends = std::vector<std::int64_t>;
  EXPECT_EQ(take(0, 1), (Ends{0, 4}));
  EXPECT_EQ(take(0, 1), (Ends{4, 6}));
  EXPECT_EQ(take(0, 1), (Ends{6, 7}));
  EXPECT_EQ(take(0, 1), (Ends{7, 8}));
  EXPECT_EQ(take(0, 1), (Ends{12, 16}));  // the other has not come yet
  EXPECT_EQ(take(1, 1), (Ends{8, 10}));
  EXPECT_EQ(take(0, 1), (Ends{11, 12}));
  EXPECT_EQ(take(0, 1), (Ends{10, 11}));
  EXPECT_EQ(take(0, 1), (Ends{0, 0}));
  EXPECT_EQ(take(0, 2), (Ends{0, 4}));  // goes on
  EXPECT_EQ(take(1, 1), (Ends{0, 0}));  // and whoever is late finds nothing
  EXPECT_EQ(take(1, 2), (Ends{8, 12}));
}

TEST(SharedWork, WhoComesAloneTakesEverything) {
  SharedWork work;
  work.begin(3);
  std::vector<int> done(SharedWork::kMostUnits, 0);
  for (;;) {
    const auto [first, last] = work.take(1, 3, 1, SharedWork::kMostUnits);
    if (first == last) break;
    for (auto i = first; i < last; ++i) ++done[static_cast<std::size_t>(i)];
  }
  EXPECT_EQ(done, std::vector<int>(done.size(), 1));
}

TEST(Team, CallersAtTheSameTimeAndCallsWithinCallsRunAlone) {
  const auto wanted = many_phases(1, 60);
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i)
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round) EXPECT_EQ(many_phases(2, 60), wanted);
    });
  for (auto& caller : callers) caller.join();
  run_team(2, [&](const Worker& worker) {
    run_team(2, [](const Worker& inner) { EXPECT_EQ(inner.threads, 1); });
    worker.meet();
    EXPECT_EQ(many_phases(2, 60), wanted);
  });
}

// A machine of made-up time on which each call takes `peaceful` and is held up by `held_up`.
class MadeUpMachine {
 public:
  explicit MadeUpMachine(int wanted) : wanted_(wanted) {}
  // Calls for that long; the part of the time in which `threads` ran.
  double share(TeamPace::Duration length, int threads, TeamPace::Duration held_up, int busy_from) {
    TeamPace::Duration with{0};
    const auto begin = now_;
    while (now_ - begin < length) {
      const int got = pace_.threads(wanted_, now_);
      EXPECT_GE(got, 1);
      EXPECT_LE(got, wanted_);
      const auto lost = got >= busy_from ? held_up : TeamPace::Duration(0);
      const auto whole = milliseconds(1) + lost;
      now_ += whole;
      if (got > 1) pace_.note(whole, lost, /*missing=*/0, now_);
      if (got == threads) with += whole;
    }
    return std::chrono::duration<double>(with) / std::chrono::duration<double>(now_ - begin);
  }

 private:
  int wanted_;
  TeamPace pace_;
  TeamPace::Time now_ = TeamPace::Time(std::chrono::hours(5));
};

TEST(TeamPace, AllThreadsOnAQuietMachine) {
  MadeUpMachine machine(4);
  EXPECT_EQ(machine.share(milliseconds(500), 4, milliseconds(0), 1), 1.0);
}

TEST(TeamPace, FewerWhereOthersAreBusyAndAllAgainAfterwards) {
  MadeUpMachine machine(2);
  machine.share(milliseconds(100), 2, milliseconds(0), 1);
  machine.share(milliseconds(3000), 1, milliseconds(4), 2);
  EXPECT_GT(machine.share(milliseconds(10000), 1, milliseconds(4), 2), 0.95);
  machine.share(milliseconds(1100), 2, milliseconds(0), 1);
  EXPECT_EQ(machine.share(milliseconds(10000), 2, milliseconds(0), 1), 1.0);
}

TEST(TeamPace, ThreeOfFourWhereOneProcessorIsBusy) {
  MadeUpMachine machine(4);
  machine.share(milliseconds(3000), 3, milliseconds(4), 4);
  EXPECT_GT(machine.share(milliseconds(10000), 3, milliseconds(4), 4), 0.95);
}

TEST(TeamPace, SingleEventsChangeNothing) {
  MadeUpMachine machine(2);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(machine.share(milliseconds(200), 2, milliseconds(0), 1), 1.0);
    machine.share(milliseconds(1), 2, milliseconds(4), 1);
  }
}

// As on a virtual machine whose host takes a processor away a few times a second.
TEST(TeamPace, LongWaitsNowAndThenCostShortPausesOnly) {
  MadeUpMachine machine(2);
  machine.share(milliseconds(3000), 1, milliseconds(4), 2);  // pauses are long now
  machine.share(milliseconds(1200), 2, milliseconds(0), 1);
  double with_both = 0;
  for (int i = 0; i < 40; ++i) {
    machine.share(milliseconds(1), 2, milliseconds(28), 1);
    with_both += machine.share(milliseconds(250), 2, milliseconds(0), 1);
  }
  EXPECT_GT(with_both / 40, 0.95);
}

TEST(TeamPace, OneThatHardlyEverAnswersIsNotAsked) {
  TeamPace pace;
  auto now = TeamPace::Time(std::chrono::hours(5));
  int asked = 0;
  for (int call = 0; call < 20'000; ++call) {
    const int threads = pace.threads(2, now);
    now += milliseconds(1);
    pace.note(milliseconds(1), TeamPace::Duration(0), /*missing=*/threads - 1, now);
    asked += threads - 1;
  }
  EXPECT_LT(asked, 1000);
  // Every other time is often enough.
  TeamPace other;
  for (int call = 0; call < 1000; ++call) {
    EXPECT_EQ(other.threads(2, now), 2);
    now += milliseconds(1);
    other.note(milliseconds(1), TeamPace::Duration(0), /*missing=*/call % 2, now);
  }
}

// One more thread would take from a caller that others keep from its processor.
TEST(TeamPace, OneThreadWhereTheCallerItselfIsTakenOff) {
  TeamPace pace;
  auto now = TeamPace::Time(std::chrono::hours(5));
  const auto asked_for = [&](milliseconds length, milliseconds taken_off) {
    int asked = 0;
    const auto begin = now;
    for (int call = 0; now - begin < length; ++call) {
      asked += pace.threads(2, now) - 1;
      now += milliseconds(1);
      if (call % 10 == 9) pace.note_taken_off(taken_off, milliseconds(10));
      pace.note(milliseconds(1), TeamPace::Duration(0), /*missing=*/0, now);
    }
    return asked;
  };
  EXPECT_EQ(asked_for(milliseconds(1000), milliseconds(0)), 1000);
  asked_for(milliseconds(500), milliseconds(4));
  EXPECT_LT(asked_for(milliseconds(4000), milliseconds(4)), 40);
  asked_for(milliseconds(1500), milliseconds(0));
  EXPECT_EQ(asked_for(milliseconds(1000), milliseconds(0)), 1000);
}

}  // namespace
}  // namespace rwkvx
