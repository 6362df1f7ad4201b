#include "rwkvx/kernels/team.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "rwkvx/base/descriptor.h"

namespace rwkvx {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;
using Duration = Clock::duration;

// Spinning at a meeting lasts this long and a part of the member's own work since the last one,
// which the others' work may differ from. For the next call it lasts this long, or as long as a
// call that the helper was too late for, if that is no more than a turn.
constexpr Duration kMeetingSpin = microseconds(100);
constexpr int kMeetingPart = 4;
constexpr Duration kCallSpin = microseconds(400);
// How long a caller waits for a helper to answer: one that spins answers in a fraction of that if
// it has a processor, so where calls are long, it may well take a part of the last one; one that
// sleeps has to be woken.
constexpr Duration kAnswer = microseconds(2), kWake = microseconds(200);
constexpr int kAnswerPart = 100;
constexpr Duration kBegin = milliseconds(2);  // one that was made for this call
// A helper offers its processor to others between two calls when it has had it for so long, which
// is less than a turn of the scheduler: one that is taken off in the middle of a call holds up all.
constexpr Duration kTurn = microseconds(1200);
// Between two looks at the clock of a thread that does nothing else, if it has a processor.
constexpr Duration kTakenOff = microseconds(200);

// A wait that is longer than the own work before it and this is for a member that did not run, or
// had to be woken.
constexpr Duration kHeldUp = microseconds(20);

// Seconds of calls by which the pace judges: some turns of a scheduler.
constexpr double kMemory = 0.03;
// Part of what a thread adds to the speed that waiting for those that do not run may take.
constexpr double kMostHeldUp = 0.75;
// Threads that may be missing, on the average of a longer while: a call without them costs little.
// A try begins close to them.
constexpr double kMostMissing = 0.8, kMissingAtFirst = 0.77, kMissingMemory = 0.2;
// A try that ends sooner has failed. One that lasts longer was worth it, and is ended by what comes
// now and then, such as a virtual machine's processor that its host takes away.
constexpr Duration kSoon = milliseconds(60);
// Part of its time that a caller waits for a processor where every processor is wanted by others:
// one more thread would take from the caller. On the average of a while.
constexpr double kCrowded = 0.2, kCrowdedSeconds = 0.25;
// Between two looks at it.
constexpr Duration kLook = milliseconds(4);
// Pauses before one more thread is tried.
constexpr Duration kLeastPause = milliseconds(8), kMostPause = milliseconds(1000);

inline void pause_processor() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Spins until done() or for `limit`; the clock is first read after some spins. Where a look at the
// clock shows that the thread was taken off its processor, *had becomes false.
template <class Done>
bool spin(Duration limit, const Done& done, bool* had = nullptr) {
  constexpr int kRound = 64;
  Clock::time_point start{}, last{};
  for (int round = 0;; ++round) {
    for (int i = 0; i < kRound; ++i) {
      if (done()) return true;
      pause_processor();
    }
    const auto now = Clock::now();
    if (round == 0) start = last = now;
    if (had != nullptr && now - last > kTakenOff) *had = false;
    last = now;
    if (now - start > limit) return false;
  }
}

Duration spin_time(Duration work) { return kMeetingSpin + work / kMeetingPart; }

// Moves this thread to one of the process's other processors, if it has others.
void leave(int processor) {
  cpu_set_t allowed;
  if (::sched_getaffinity(::getpid(), sizeof allowed, &allowed) != 0) return;
  CPU_CLR(processor, &allowed);
  if (CPU_COUNT(&allowed) > 0) ::sched_setaffinity(0, sizeof allowed, &allowed);
}

// How long this thread could have run and had no processor since it was last asked; 0 the first
// time and where the system does not say.
class ProcessorWaits {
 public:
  ProcessorWaits() : file_(::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)) {}

  Duration since_last() {
    // Nanoseconds that it ran and that it waited, then a count.
    char text[100];
    const auto size = !file_ ? 0 : ::pread(file_.get(), text, sizeof text, 0);
    const char* const end = text + std::max<ssize_t>(size, 0);
    const char* const space = std::find(static_cast<const char*>(text), end, ' ');
    std::int64_t waited = 0;
    if (space == end || std::from_chars(space + 1, end, waited).ec != std::errc()) return {};
    const auto before = std::exchange(last_, waited);
    return std::chrono::nanoseconds(before < 0 ? 0 : waited - before);
  }

 private:
  Descriptor file_;
  std::int64_t last_ = -1;
};

// A member that worked from notes.since to `arrival` waited for the others until `now`.
void note_wait(MemberNotes& notes, Clock::time_point arrival, Clock::time_point now) {
  const auto held_up = now - arrival - (arrival - notes.since) - kHeldUp;
  if (held_up > Duration(0)) notes.held_up += held_up;
  notes.since = now;
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
      const int members = 1 + invite(threads - 1);
      Duration held_up{0};
      if (members > 1)
        held_up = share({run, context, members}, start);
      else
        run_alone(run, context);
      const auto end = Clock::now();
      last_ = end - start;
      if (end - looked_ > kLook) {
        static thread_local ProcessorWaits waits;
        pace_.note_taken_off(waits.since_last(), end - looked_);
        looked_ = end;
      }
      pace_.note(end - start, held_up, threads - members, end);
      return;
    }
    run_alone(run, context);
  }

 private:
  // What passes between the caller and a helper. The caller invites, or withdraws an invitation
  // that is not answered; the helper answers an invitation; the caller then sends it to work.
  enum Call : int { kNone, kInvited, kHere, kGo };
  struct alignas(64) Helper {
    std::atomic<int> call{kNone};
    std::atomic<int> wakes{0};  // what it sleeps on: a withdrawn invitation wakes it, too
    std::atomic<bool> asleep{false}, woken{false};
    int id = 0;  // within the call
    MemberNotes notes;

    void wake() {
      wakes.fetch_add(1);
      wakes.notify_one();
    }
  };

  void run_alone(void (*run)(const void*, const Worker&), const void* context) {
    MemberNotes notes;
    run(context, Worker{0, 1, barrier_, work_, notes});
  }

  // Invites as many helpers; returns how many have a processor and answered. Those are team_.
  int invite(int others) {
    Duration patience = std::clamp<Duration>(last_.load() / kAnswerPart, kAnswer, kWake);
    while (static_cast<int>(helpers_.size()) < others) {
      auto& helper = helpers_.emplace_back();
      std::thread([this, &helper] { serve(helper); }).detach();
      patience = kBegin;
    }
    team_.clear();
    if (others > 0) caller_processor_.store(::sched_getcpu(), std::memory_order_relaxed);
    for (int i = 0; i < others; ++i) {
      auto& helper = helpers_[static_cast<std::size_t>(i)];
      helper.call.store(kInvited);
      // Who was woken before and still sleeps has no processor to wake up on.
      if (!helper.asleep.load() || helper.woken.exchange(true)) continue;
      helper.wake();
      patience = std::max(patience, kWake);
    }
    const auto answered = [&](const Helper& helper) {
      return helper.call.load(std::memory_order_acquire) == kHere;
    };
    const auto all = [&] {
      return std::all_of(helpers_.begin(), helpers_.begin() + others, answered);
    };
    if (others > 0) spin(patience, all);
    for (int i = 0; i < others; ++i) {
      auto& helper = helpers_[static_cast<std::size_t>(i)];
      int invited = kInvited;
      if (helper.call.compare_exchange_strong(invited, kNone)) continue;
      team_.push_back(&helper);
    }
    return static_cast<int>(team_.size());
  }

  // Returns how long the member that waited longest was held up.
  Duration share(const Job& job, Clock::time_point start) {
    job_ = job;
    work_.begin(job.threads);
    working_.store(job.threads - 1, std::memory_order_relaxed);
    for (std::size_t i = 0; i < team_.size(); ++i) {
      auto& helper = *team_[i];
      helper.id = static_cast<int>(i) + 1;
      helper.call.store(kGo);
      if (helper.asleep.load()) helper.wake();
    }
    MemberNotes notes;
    notes.since = start;
    inside = true;
    job.run(job.context, Worker{0, job.threads, barrier_, work_, notes});
    inside = false;
    const auto arrival = Clock::now();
    const auto done = [&] { return working_.load(std::memory_order_acquire) == 0; };
    if (!spin(spin_time(arrival - notes.since), done)) {
      asleep_.store(true);
      for (int left; (left = working_.load()) != 0;) working_.wait(left);
      asleep_.store(false);
    }
    note_wait(notes, arrival, Clock::now());
    auto most = notes.held_up;
    for (const auto* helper : team_) most = std::max(most, helper->notes.held_up);
    return most;
  }

  // Waits until `helper` is called otherwise than `call`. Returns whether the helper had its
  // processor all the time.
  bool wait_for_other(Helper& helper, int call) {
    const auto other = [&] { return helper.call.load(std::memory_order_acquire) != call; };
    bool had = true;
    const auto limit = std::clamp<Duration>(last_.load() * 5 / 4, kCallSpin, kTurn);
    if (spin(limit, other, &had)) return had;
    const int seen = helper.wakes.load();
    helper.woken.store(false);
    helper.asleep.store(true);
    if (helper.call.load() == call) helper.wakes.wait(seen);  // the caller sees either of both
    helper.asleep.store(false);
    return false;
  }

  void serve(Helper& helper) {
    inside = true;
    for (auto turn = Clock::now();;) {
      switch (const int call = helper.call.load(std::memory_order_acquire)) {
        case kInvited: {
          if (const int processor = caller_processor_.load(std::memory_order_relaxed);
              processor == ::sched_getcpu())
            leave(processor);
          int invited = kInvited;
          helper.call.compare_exchange_strong(invited, kHere);
          break;
        }
        case kGo:
          helper.notes = {Clock::now()};
          helper.call.store(kNone, std::memory_order_relaxed);
          job_.run(job_.context, Worker{helper.id, job_.threads, barrier_, work_, helper.notes});
          if (working_.fetch_sub(1) == 1 && asleep_.load()) working_.notify_one();
          if (Clock::now() - turn > kTurn) {
            std::this_thread::yield();
            turn = Clock::now();
          }
          break;
        default:
          if (!wait_for_other(helper, call)) turn = Clock::now();
      }
    }
  }

  static thread_local bool inside;  // a call of this thread is running

  std::mutex mutex_;  // held by the one caller
  TeamPace pace_;
  std::atomic<Duration> last_{Duration(0)};  // of the last call
  Clock::time_point looked_;
  Job job_;
  Barrier barrier_;
  SharedWork work_;
  alignas(64) std::atomic<int> working_{0};  // helpers that are not done with the call
  std::atomic<bool> asleep_{false};          // the caller, until they are
  std::deque<Helper> helpers_;
  std::vector<Helper*> team_;  // of the call, without the caller
  std::atomic<int> caller_processor_{-1};
};

thread_local bool Pool::inside = false;

}  // namespace

int TeamPace::threads(int wanted, Time now) {
  if (wanted != wanted_) {
    wanted_ = wanted;
    pause_ = kLeastPause;
    begin(wanted, /*missing=*/0, now);
  }
  if (active_ < wanted_ && now - changed_ >= pause_) {
    if (crowded()) lengthen_pause();
    begin(crowded() ? active_ : active_ + 1, kMissingAtFirst, now);
  }
  return active_;
}

void TeamPace::begin(int active, double missing, Time now) {
  active_ = active;
  whole_ = held_up_ = 0;
  missing_ = missing;
  changed_ = now;
}

void TeamPace::lengthen_pause() { pause_ = std::min(kMostPause, 2 * pause_); }

bool TeamPace::crowded() const { return taken_off_ > kCrowded; }

void TeamPace::note_taken_off(Duration waited, Duration in) {
  const std::chrono::duration<double> seconds = in;
  const double part = std::min(1.0, seconds.count() / kCrowdedSeconds);
  taken_off_ += (std::min(1.0, waited / seconds) - taken_off_) * part;
}

void TeamPace::note(Duration whole, Duration held_up, int missing, Time now) {
  const double seconds = std::chrono::duration<double>(whole).count();
  const double kept = std::max(0.0, 1 - seconds / kMemory);
  whole_ = whole_ * kept + seconds;
  held_up_ = held_up_ * kept + std::chrono::duration<double>(held_up).count();
  missing_ += (missing - missing_) * std::min(1.0, seconds / kMissingMemory);
  const bool no_processor = crowded() || missing_ > kMostMissing;
  const bool too_many = no_processor || held_up_ * active_ > kMostHeldUp * whole_;
  if (active_ == 1 || whole_ < kMemory / 2 || !too_many) return;
  if (no_processor || now - changed_ < kSoon)
    lengthen_pause();
  else
    pause_ = kLeastPause;
  begin(active_ - 1, /*missing=*/0, now);
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

void SharedWork::begin(int threads) {
  while (std::ssize(parts_) < threads) parts_.emplace_back();
  for (auto& part : parts_) part.left.store(0, std::memory_order_relaxed);
}

Range SharedWork::take(int id, int threads, std::uint32_t number, std::int64_t units) {
  for (int i = 0; i < threads; ++i) {
    const int whose = (id + i) % threads;
    auto& left = parts_[static_cast<std::size_t>(whose)].left;
    for (auto seen = left.load(std::memory_order_acquire);;) {
      const auto at = static_cast<std::uint32_t>(seen >> 32);
      if (at > number) break;
      std::int64_t first = seen >> 16 & kMostUnits, last = seen & kMostUnits;
      if (at < number) first = units * whose / threads, last = units * (whose + 1) / threads;
      if (first == last) break;
      const std::int64_t some = (last - first + 1) / 2;
      const Range piece = i == 0 ? Range{first, first + some} : Range{last - some, last};
      (i == 0 ? first : last) = i == 0 ? piece.last : piece.first;
      const auto rest =
          std::uint64_t{number} << 32 | static_cast<std::uint64_t>(first << 16 | last);
      if (left.compare_exchange_weak(seen, rest, std::memory_order_acq_rel)) return piece;
    }
  }
  return {0, 0};
}

void Worker::meet_others() const {
  const auto arrival = Clock::now();
  barrier.wait(threads, spin_time(arrival - notes.since));
  note_wait(notes, arrival, Clock::now());
}

void run_team(int threads, void (*run)(const void*, const Worker&), const void* context) {
  Pool::get().call(threads, run, context);
}

}  // namespace rwkvx
