// Threads that work on one token together and meet many times on the way.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>

namespace rwkvx {

// How many of the threads that a caller wants are asked to a call. Members that meet every few
// microseconds need a processor each: where another process has one of them, the others wait until
// the scheduler comes back to it, which takes milliseconds, and fewer threads are faster. Where
// waiting for members that do not run takes more of the time than a thread is worth, or one hardly
// ever answers, there is one thread less for a pause; then it is tried again, after longer pauses
// where that fails each time. Where the caller itself is taken off its processor time and again,
// all processors are wanted by others, and one more thread would take from the caller.
class TeamPace {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::steady_clock::duration;
  // Threads of the next call, 1 .. wanted.
  int threads(int wanted, Time now);
  // A call of threads(), of which `missing` did not answer, took `whole`, `held_up` of it because a
  // member did not run.
  void note(Duration whole, Duration held_up, int missing, Time now);
  // So long the caller waited for a processor in that time, as another thread had it.
  void note_taken_off(Duration waited, Duration in);

 private:
  bool crowded() const;
  // From now on so many threads; `missing` of them at first, as far as is known.
  void begin(int active, double missing, Time now);
  void lengthen_pause();

  int wanted_ = 0, active_ = 0;
  double taken_off_ = 0;            // the caller, in the last while
  double whole_ = 0, held_up_ = 0;  // seconds, of the last calls
  double missing_ = 0;              // threads, on the average
  Duration pause_{0};
  Time changed_;  // when there were last more or fewer threads
};

// One meeting point. Waiting spins at first, since a wait is mostly shorter than a sleep, then
// sleeps, so that a member which has no processor gets that of the one that waits.
class Barrier {
 public:
  // Returns when `threads` callers are there. Spins for about `spin` before it sleeps.
  void wait(int threads, std::chrono::steady_clock::duration spin);

 private:
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> round_{0};
  std::atomic<int> sleeping_{0};
};

// From `first` up to but not including `last`.
struct Range {
  std::int64_t first, last;
};

// Work that members take piece by piece, each from the front of a part of its own, then from the
// back of others' parts: who is slow, or is not there yet, has less of it. A piece is half of what
// is left of the part. One work after the other, by number: a member may be at the next one while
// others have the last pieces of this one.
class SharedWork {
 public:
  static constexpr std::int64_t kMostUnits = 0xffff;
  // Before a call, by its caller: number 0 is done.
  void begin(int threads);
  // The next piece of 0 .. units of work `number`; empty where none is left.
  Range take(int id, int threads, std::uint32_t number, std::int64_t units);

 private:
  // What is left of a part: the work's number, then the first and the last unit, 16 bits each.
  struct alignas(64) Part {
    std::atomic<std::uint64_t> left{0};
  };
  std::deque<Part> parts_;
};

// What a member knows of its call.
struct alignas(64) MemberNotes {
  std::chrono::steady_clock::time_point since;     // when it came from the last meeting
  std::chrono::steady_clock::duration held_up{0};  // by members that did not run
  std::uint32_t shared = 0;                        // works that it took pieces of
};

// One member of a team, as its work sees it.
struct Worker {
  int id, threads;
  Barrier& barrier;
  SharedWork& work;
  MemberNotes& notes;

  void meet() const {
    if (threads > 1) meet_others();
  }
  // This member's part of 0 .. count, in whole units but for the end.
  Range part(std::int64_t count, std::int64_t unit) const {
    const std::int64_t units = (count + unit - 1) / unit;
    return {std::min(count, units * id / threads * unit),
            std::min(count, units * (id + 1) / threads * unit)};
  }
  // Calls run(first, last) with pieces of 0 .. count, in whole units but for the end, until the
  // members have taken all. They make the same calls in the same order, and meet before one needs
  // what another has done.
  template <class Run>
  void share(std::int64_t count, std::int64_t unit, const Run& run) const {
    if (threads == 1) {
      if (count > 0) run(std::int64_t{0}, count);
      return;
    }
    const std::int64_t most = SharedWork::kMostUnits;
    unit *= std::max<std::int64_t>(1, (count + unit * most - 1) / (unit * most));
    const std::int64_t units = (count + unit - 1) / unit;
    const auto number = ++notes.shared;
    for (;;) {
      const auto [first, last] = work.take(id, threads, number, units);
      if (first == last) return;
      run(first * unit, std::min(count, last * unit));
    }
  }

 private:
  void meet_others() const;
};

// Calls run(context, worker) on up to `threads` threads at once, the caller being one of them; the
// others are kept from call to call and sleep in between. A caller that comes while another
// thread's call is running, or from within a call, runs alone. An error thrown by `run` ends the
// program.
void run_team(int threads, void (*run)(const void* context, const Worker&), const void* context);

// Calls run(worker) on `threads` threads at once, or fewer where processors are busy: those that
// answer at once, of those that TeamPace asks. So what it computes must not depend on their number.
template <class Run>
void run_team(int threads, const Run& run) {
  run_team(
      threads,
      [](const void* context, const Worker& worker) noexcept {
        (*static_cast<const Run*>(context))(worker);
      },
      &run);
}

// Calls run(first, last) with pieces of 0 .. count, in whole units but for the end, on up to
// `threads` threads.
template <class Run>
void run_in_pieces(int threads, std::int64_t count, std::int64_t unit, const Run& run) {
  run_team(threads, [&](const Worker& worker) { worker.share(count, unit, run); });
}

}  // namespace rwkvx
