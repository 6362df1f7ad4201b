#include "rwkvx/base/workers.h"

#include "rwkvx/base/processors.h"

namespace rwkvx {
namespace {

std::exception_ptr error_of(const Workers::Work& work, std::size_t job) {
  try {
    work(job);
    return nullptr;
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace

std::int64_t thread_count(std::int64_t wanted) {
  return choose_threads(wanted, processors()).threads;
}

Workers::Workers(std::int64_t count, const std::function<Work()>& make) {
  if (count <= 1) {
    own_ = make();
    return;
  }
  for (std::int64_t i = 0; i < count; ++i)
    threads_.emplace_back([this, make] {
      const Work work = make();
      std::unique_lock lock(mutex_);
      for (;;) {
        wake_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
        if (stopping_) return;
        const auto job = waiting_.front();
        waiting_.pop_front();
        lock.unlock();
        auto error = error_of(work, job);
        lock.lock();
        done_[job] = std::move(error);
        finished_.notify_one();
      }
    });
}

Workers::~Workers() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void Workers::give(std::size_t job) {
  if (own_) {
    done_[job] = error_of(own_, job);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(job);
  }
  wake_.notify_one();
}

void Workers::wait(std::size_t job) {
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [&] { return done_.contains(job); });
  const auto error = done_.extract(job).mapped();
  if (error) std::rethrow_exception(error);
}

}  // namespace rwkvx
