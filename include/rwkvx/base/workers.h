// Threads that do numbered jobs.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace rwkvx {

// The number of threads that a setting stands for; 0: as many as there are processors for this
// process (base/processors.h).
std::int64_t thread_count(std::int64_t wanted);

// Jobs are begun in the order in which they were given. The caller alone gives and waits.
class Workers {
 public:
  using Work = std::function<void(std::size_t job)>;
  // Every thread calls `make` once and then what that returned for each of its jobs, so that it can
  // keep buffers of its own. With a count of 1 the caller does the jobs in give().
  Workers(std::int64_t count, const std::function<Work()>& make);
  // Waits for the jobs that have begun and drops the others.
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  // A number may be given again after it was waited for.
  void give(std::size_t job);
  // Returns when the job is done; throws what it threw.
  void wait(std::size_t job);

 private:
  std::mutex mutex_;
  std::condition_variable wake_, finished_;
  std::deque<std::size_t> waiting_;
  std::map<std::size_t, std::exception_ptr> done_;
  bool stopping_ = false;
  Work own_;
  std::vector<std::thread> threads_;
};

}  // namespace rwkvx
