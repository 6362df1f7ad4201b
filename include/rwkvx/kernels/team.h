// Threads that work on one token together and meet many times on the way.
#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>

namespace rwkvx {

// One meeting point. Waiting spins, since a wait is shorter than a sleep; on a machine that has
// fewer free processors than threads it gives way.
class Barrier {
 public:
  void wait(int threads) {
    const auto round = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) {
      if (spins > kSpins) std::this_thread::yield();
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  }

 private:
  static constexpr int kSpins = 1 << 14;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<unsigned> round_{0};
};

// One member of a team, as its work sees it.
struct Worker {
  int id, threads;
  Barrier& barrier;

  void meet() const {
    if (threads > 1) barrier.wait(threads);
  }
  // This member's part of 0 .. count, in whole units but for the end.
  struct Range {
    std::int64_t first, last;
  };
  Range part(std::int64_t count, std::int64_t unit) const {
    const std::int64_t units = (count + unit - 1) / unit;
    return {std::min(count, units * id / threads * unit),
            std::min(count, units * (id + 1) / threads * unit)};
  }
};

// Calls run(worker) on `threads` threads at once: those of OpenMP, which LibTorch keeps warm.
template <class Run>
void run_team(int threads, const Run& run) {
  Barrier barrier;
#pragma omp parallel num_threads(threads)
  run(Worker{omp_get_thread_num(), omp_get_num_threads(), barrier});
}

}  // namespace rwkvx
