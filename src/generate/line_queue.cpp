#include "generate/line_queue.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "rwkvx/base/error.h"

namespace rwkvx {

LineQueue::LineQueue(int descriptor, const Bounds& bounds)
    : descriptor_(descriptor), bounds_(bounds) {
  if (::pipe2(stop_, O_CLOEXEC) != 0)
    throw Error("standard input", std::string("cannot make a pipe: ") + std::strerror(errno));
  // Signals are for the thread that decodes.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { read(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

LineQueue::~LineQueue() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  room_.notify_all();
  ::close(stop_[1]);
  thread_.join();
  ::close(stop_[0]);
}

std::optional<ReadLine> LineQueue::next(std::chrono::milliseconds wait) {
  std::unique_lock lock(mutex_);
  came_.wait_for(lock, wait, [&] { return !lines_.empty() || done_; });
  if (lines_.empty()) return std::nullopt;
  auto line = std::move(lines_.front());
  lines_.pop_front();
  bytes_ -= line.text.size();
  room_.notify_one();
  return line;
}

bool LineQueue::ended() {
  const std::lock_guard lock(mutex_);
  return done_ && lines_.empty();
}

std::string LineQueue::error() {
  const std::lock_guard lock(mutex_);
  return error_;
}

void LineQueue::push(ReadLine line) {
  std::unique_lock lock(mutex_);
  room_.wait(lock, [&] {
    return stopped_ || lines_.empty() ||
           (lines_.size() < bounds_.lines && bytes_ + line.text.size() <= bounds_.bytes);
  });
  bytes_ += line.text.size();
  lines_.push_back(std::move(line));
  came_.notify_one();
}

void LineQueue::read() {
  std::vector<char> buffer(std::size_t{1} << 16);
  ReadLine line{1, "", false};
  bool begun = false;  // the line has any bytes
  std::string error;
  for (;;) {
    pollfd both[] = {{descriptor_, POLLIN, 0}, {stop_[0], POLLIN, 0}};
    if (::poll(both, 2, -1) < 0 && errno != EINTR) {
      error = std::strerror(errno);
      break;
    }
    if (both[1].revents != 0) break;
    if (both[0].revents == 0) continue;
    const auto count = ::read(descriptor_, buffer.data(), buffer.size());
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count < 0) error = std::strerror(errno);
    if (count <= 0) break;
    for (std::string_view rest(buffer.data(), static_cast<std::size_t>(count)); !rest.empty();) {
      const auto end = rest.find('\n');
      const auto part = rest.substr(0, end);
      const auto room = bounds_.line_bytes - line.text.size();
      line.text += part.substr(0, room);
      line.too_long = line.too_long || part.size() > room;
      begun = end == rest.npos;
      if (begun) break;
      rest.remove_prefix(end + 1);
      const auto next = line.number + 1;
      push(std::exchange(line, {next, "", false}));
    }
  }
  if (begun) push(std::move(line));
  const std::lock_guard lock(mutex_);
  done_ = true;
  error_ = error;
  came_.notify_one();
}

}  // namespace rwkvx
