// Other work on the machine, for measurements beside it.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace rwkvx {

// That many threads of ordinary priority that compute without a pause while this lives.
class BusyThreads {
 public:
  explicit BusyThreads(std::int64_t count);
  ~BusyThreads();
  BusyThreads(const BusyThreads&) = delete;
  BusyThreads& operator=(const BusyThreads&) = delete;

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

}  // namespace rwkvx
