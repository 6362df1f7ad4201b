#include "rwkvx/base/busy_threads.h"

namespace rwkvx {

BusyThreads::BusyThreads(std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i)
    threads_.emplace_back([this] {
      while (!stop_.load(std::memory_order_relaxed)) {
      }
    });
}

BusyThreads::~BusyThreads() {
  stop_ = true;
  for (auto& thread : threads_) thread.join();
}

}  // namespace rwkvx
