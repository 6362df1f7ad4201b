// A bar with the expected time left on a terminal; a plain line now and then elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace rwkvx {

// "1h02m", "3m05s", "12s".
std::string duration_text(double seconds);
// "1.5 GiB", "12.0 KiB", "17 B".
std::string bytes_text(double bytes);
// 1234567 as "1,234,567".
std::string count_text(std::int64_t count);

// Wipes an unfinished bar from the terminal so that a message can be printed; no-op elsewhere.
void clear_progress_line();

// Progress of one job on standard error. On a terminal one line is redrawn at most ten times a
// second and fits the width; elsewhere a plain line is printed at most every `plain_every` seconds.
class Progress {
 public:
  // `total` of 0: unknown, so only the count and the speed are shown.
  Progress(std::string what, std::int64_t total, bool quiet = false, double plain_every = 10);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  // Work done so far and a short note ("loss 1.234") shown behind the bar.
  void update(std::int64_t done, const std::string& note = "");
  // Work that was done before this run and must not count in the speed.
  void start_from(std::int64_t done);
  // Wipes the bar, or ends it with a last plain line.
  void finish();
  // False where the bar draws itself over and over (a terminal), so plain result lines are not
  // needed.
  bool plain() const { return plain_; }

 private:
  using Clock = std::chrono::steady_clock;
  std::string line(std::int64_t done, const std::string& note, int width) const;
  std::string what_;
  std::int64_t total_, first_ = 0, last_done_ = 0;
  bool quiet_, plain_, finished_ = false, drawn_ = false;
  double plain_every_;
  std::string last_note_;
  Clock::time_point started_, shown_;
};

// Columns of the terminal on standard error or standard output; 80 where there is none.
int terminal_width();

}  // namespace rwkvx
