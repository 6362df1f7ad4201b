#include "rwkvx/kernels/team.h"

#include <deque>
#include <mutex>
#include <thread>

namespace rwkvx {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;
using Duration = Clock::duration;

// Spinning at a meeting lasts this long and a part of the member's own work since the last one,
// which the others' work may differ from; for the next call this long.
constexpr Duration kMeetingSpin = microseconds(100);
constexpr int kMeetingPart = 4;
constexpr Duration kCallSpin = microseconds(200);
// A wait that is longer than the own work before it and this is for a member that did not run, or
// had to be woken.
constexpr Duration kHeldUp = microseconds(20);

// Seconds of calls by which the pace judges: some turns of a scheduler.
constexpr double kMemory = 0.03;
// Pauses before one more thread is tried.
constexpr Duration kLeastPause = milliseconds(8), kMostPause = milliseconds(1000);

inline void pause_processor() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Spins until done() or for `limit`; the clock is first read after some spins.
template <class Done>
bool spin(Duration limit, const Done& done) {
  constexpr int kRound = 64;
  Clock::time_point start{};
  for (int round = 0;; ++round) {
    for (int i = 0; i < kRound; ++i) {
      if (done()) return true;
      pause_processor();
    }
    const auto now = Clock::now();
    if (round == 0)
      start = now;
    else if (now - start > limit)
      return false;
  }
}

Duration spin_time(Duration work) { return kMeetingSpin + work / kMeetingPart; }

// A member that worked from times.since to `arrival` waited for the others until `now`.
void note_wait(MemberTimes& times, Clock::time_point arrival, Clock::time_point now) {
  const auto held_up = now - arrival - (arrival - times.since) - kHeldUp;
  if (held_up > Duration(0)) times.held_up += held_up;
  times.since = now;
}

struct Job {
  void (*run)(const void*, const Worker&) = nullptr;
  const void* context = nullptr;
  int threads = 1;
};

// The threads of the process beside the callers. They end with it.
class Pool {
 public:
  static Pool& get() {
    static Pool* const pool = new Pool;
    return *pool;
  }

  void call(int threads, void (*run)(const void*, const Worker&), const void* context) {
    std::unique_lock lock(mutex_, std::defer_lock);
    if (threads > 1 && !inside && lock.try_lock()) {
      const auto start = Clock::now();
      threads = pace_.threads(threads, start);
      if (threads > 1) {
        const auto held_up = share({run, context, threads}, start);
        const auto end = Clock::now();
        pace_.note(end - start, held_up, end);
        return;
      }
    }
    MemberTimes times;
    run(context, Worker{0, 1, barrier_, times});
  }

 private:
  struct alignas(64) Helper {
    std::atomic<int> calls{0};  // given to it so far
    std::atomic<bool> asleep{false};
    MemberTimes times;
  };

  // Returns how long the member that waited longest was held up.
  Duration share(const Job& job, Clock::time_point start) {
    job_ = job;
    const auto others = static_cast<std::size_t>(job.threads - 1);
    while (helpers_.size() < others) {
      auto& helper = helpers_.emplace_back();
      const int id = static_cast<int>(helpers_.size());
      std::thread([this, id, &helper] { serve(id, helper); }).detach();
    }
    working_.store(job.threads - 1, std::memory_order_relaxed);
    for (std::size_t i = 0; i < others; ++i) {
      helpers_[i].calls.fetch_add(1);
      if (helpers_[i].asleep.load()) helpers_[i].calls.notify_one();
    }
    MemberTimes times;
    times.since = start;
    inside = true;
    job.run(job.context, Worker{0, job.threads, barrier_, times});
    inside = false;
    const auto arrival = Clock::now();
    const auto done = [&] { return working_.load(std::memory_order_acquire) == 0; };
    if (!spin(spin_time(arrival - times.since), done)) {
      asleep_.store(true);
      for (int left; (left = working_.load()) != 0;) working_.wait(left);
      asleep_.store(false);
    }
    note_wait(times, arrival, Clock::now());
    auto most = times.held_up;
    for (std::size_t i = 0; i < others; ++i) most = std::max(most, helpers_[i].times.held_up);
    return most;
  }

  void serve(int id, Helper& helper) {
    inside = true;
    for (int seen = 0;; ++seen) {
      const auto given = [&] { return helper.calls.load(std::memory_order_acquire) != seen; };
      if (!spin(kCallSpin, given)) {
        helper.asleep.store(true);
        helper.calls.wait(seen);
        helper.asleep.store(false, std::memory_order_relaxed);
      }
      helper.times = {Clock::now()};
      job_.run(job_.context, Worker{id, job_.threads, barrier_, helper.times});
      if (working_.fetch_sub(1) == 1 && asleep_.load()) working_.notify_one();
    }
  }

  static thread_local bool inside;  // a call of this thread is running

  std::mutex mutex_;  // held by the one caller
  TeamPace pace_;
  Job job_;
  Barrier barrier_;
  alignas(64) std::atomic<int> working_{0};  // helpers that are not done with the call
  std::atomic<bool> asleep_{false};          // the caller, until they are
  std::deque<Helper> helpers_;
};

thread_local bool Pool::inside = false;

}  // namespace

int TeamPace::threads(int wanted, Time now) {
  if (wanted != wanted_) {
    wanted_ = active_ = wanted;
    whole_ = held_up_ = 0;
    pause_ = kLeastPause;
    changed_ = now;
  }
  if (active_ < wanted_ && now - changed_ >= pause_) {
    ++active_;
    whole_ = held_up_ = 0;
    changed_ = now;
  }
  return active_;
}

void TeamPace::note(Duration whole, Duration held_up, Time now) {
  const double seconds = std::chrono::duration<double>(whole).count();
  const double kept = std::max(0.0, 1 - seconds / kMemory);
  whole_ = whole_ * kept + seconds;
  held_up_ = held_up_ * kept + std::chrono::duration<double>(held_up).count();
  // Half of what a thread adds to the speed.
  if (active_ == 1 || held_up_ * 2 * active_ <= whole_) return;
  // Soon after the last change: it will not be otherwise soon.
  pause_ = now - changed_ < 4 * pause_ ? std::min(kMostPause, 2 * pause_) : kLeastPause;
  --active_;
  whole_ = held_up_ = 0;
  changed_ = now;
}

void Barrier::wait(int threads, Duration spin_time) {
  const int round = round_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
    arrived_.store(0, std::memory_order_relaxed);
    // Both in the one order of all such operations, as in the sleeper: it is seen or sees the
    // round.
    round_.store(round + 1);
    if (sleeping_.load() > 0) round_.notify_all();
    return;
  }
  if (spin(spin_time, [&] { return round_.load(std::memory_order_acquire) != round; })) return;
  sleeping_.fetch_add(1);
  round_.wait(round);
  sleeping_.fetch_sub(1);
}

void Worker::meet_others() const {
  const auto arrival = Clock::now();
  barrier.wait(threads, spin_time(arrival - times.since));
  note_wait(times, arrival, Clock::now());
}

void run_team(int threads, void (*run)(const void*, const Worker&), const void* context) {
  Pool::get().call(threads, run, context);
}

}  // namespace rwkvx
