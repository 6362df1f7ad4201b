// Lines of a descriptor, read by a thread of its own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace rwkvx {

struct ReadLine {
  std::int64_t number = 0;  // from 1
  std::string text;         // without its break
  bool too_long = false;    // then the text is its beginning
};

// Reads ahead as far as its bounds allow; who writes to the other end then waits. The last line
// needs no break.
class LineQueue {
 public:
  struct Bounds {
    std::size_t line_bytes = std::size_t{16} << 20;  // longer lines are cut
    std::size_t bytes = std::size_t{32} << 20;       // of lines that wait
    std::size_t lines = 1024;
  };
  LineQueue(int descriptor, const Bounds& bounds);
  // Ends the thread, whatever it waits for.
  ~LineQueue();
  LineQueue(const LineQueue&) = delete;
  LineQueue& operator=(const LineQueue&) = delete;
  // The next line, or none where none came within this time or nothing more comes.
  std::optional<ReadLine> next(std::chrono::milliseconds wait);
  // No line is left and none will come.
  bool ended();
  // Why reading failed, "" at a plain end; once ended().
  std::string error();

 private:
  void read();
  void push(ReadLine line);
  const int descriptor_;
  const Bounds bounds_;
  int stop_[2] = {-1, -1};  // a pipe that wakes the thread
  std::mutex mutex_;
  std::condition_variable came_, room_;
  std::deque<ReadLine> lines_;
  std::size_t bytes_ = 0;
  bool done_ = false, stopped_ = false;
  std::string error_;
  std::thread thread_;
};

}  // namespace rwkvx
