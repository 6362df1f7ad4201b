#include "rwkvx/base/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "rwkvx/base/log.h"

namespace rwkvx {
namespace {

std::atomic<bool> bar_on_screen{false};

}  // namespace

std::string duration_text(double seconds) {
  char text[48];
  const auto whole = static_cast<long long>(std::max(0.0, seconds) + 0.5);
  if (whole >= 86400)
    std::snprintf(text, sizeof text, "%lldd%02lldh", whole / 86400, whole / 3600 % 24);
  else if (whole >= 3600)
    std::snprintf(text, sizeof text, "%lldh%02lldm", whole / 3600, whole / 60 % 60);
  else if (whole >= 60)
    std::snprintf(text, sizeof text, "%lldm%02llds", whole / 60, whole % 60);
  else
    std::snprintf(text, sizeof text, "%llds", whole);
  return text;
}

std::string bytes_text(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  char text[48];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, kUnits[unit]);
  return text;
}

std::string count_text(std::int64_t count) {
  std::string digits = std::to_string(count);
  const std::ptrdiff_t first = count < 0 ? 1 : 0;
  for (auto place = static_cast<std::ptrdiff_t>(digits.size()) - 3; place > first; place -= 3)
    digits.insert(static_cast<std::size_t>(place), ",");
  return digits;
}

void clear_progress_line() {
  if (!bar_on_screen.exchange(false)) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
}

int terminal_width() {
  for (const int descriptor : {STDERR_FILENO, STDOUT_FILENO}) {
    winsize size{};
    if (::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  }
  return 80;
}

Progress::Progress(std::string what, std::int64_t total, bool quiet, double plain_every)
    : what_(std::move(what)),
      total_(total),
      quiet_(quiet),
      plain_(::isatty(STDERR_FILENO) == 0),
      plain_every_(plain_every),
      started_(Clock::now()),
      shown_(started_) {
  const char* terminal = std::getenv("TERM");
  if (terminal != nullptr && std::string(terminal) == "dumb") plain_ = true;
}

Progress::~Progress() {
  if (!finished_ && drawn_ && !plain_) clear_progress_line();
}

void Progress::start_from(std::int64_t done) { first_ = last_done_ = done; }

std::string Progress::line(std::int64_t done, const std::string& note, int width) const {
  const double seconds = std::chrono::duration<double>(Clock::now() - started_).count();
  const double speed = seconds > 0 ? static_cast<double>(done - first_) / seconds : 0;
  std::string text = what_, tail = note.empty() ? "" : "  " + note;
  // On a narrow terminal the last parts of the note go first, so that the time left stays.
  const auto fits = [&](std::size_t others) {
    return plain_ || static_cast<int>(what_.size() + tail.size() + others) + 1 < width;
  };
  constexpr std::size_t kPercentAndTime = 20;  // " 100%" and "  12h34m left"
  while (!fits(kPercentAndTime) && !tail.empty()) {
    const auto last = tail.rfind("  ");
    tail.resize(last == std::string::npos ? 0 : last);
  }
  if (total_ > 0) {
    const double share =
        std::clamp(static_cast<double>(done) / static_cast<double>(total_), 0.0, 1.0);
    char percent[16];
    std::snprintf(percent, sizeof percent, " %3d%%", static_cast<int>(share * 100));
    text += percent;
    if (speed > 0 && done < total_)
      tail += "  " + duration_text(static_cast<double>(total_ - done) / speed) + " left";
    else if (done >= total_)
      tail += "  " + duration_text(seconds);
    const int room = width - static_cast<int>(text.size() + tail.size()) - 4;
    if (room >= 8 && !plain_) {
      const int cells = std::min(room, 30);
      const int full = static_cast<int>(share * cells);
      text += " [" + std::string(static_cast<std::size_t>(full), '#') +
              std::string(static_cast<std::size_t>(cells - full), '.') + "]";
    }
  } else {
    text += " " + count_text(done);
  }
  text += tail;
  if (!plain_ && static_cast<int>(text.size()) >= width && width > 1)
    text.resize(static_cast<std::size_t>(width - 1));
  return text;
}

void Progress::update(std::int64_t done, const std::string& note) {
  last_done_ = done;
  last_note_ = note;
  if (quiet_ || finished_) return;
  const auto time = Clock::now();
  const double since = std::chrono::duration<double>(time - shown_).count();
  errno = 0;
  if (plain_) {
    if (since < plain_every_) return;
    std::fprintf(stderr, "rwkvx: %s\n", line(done, note, 0).c_str());
  } else {
    if (drawn_ && bar_on_screen && since < 0.1) return;
    std::fprintf(stderr, "\r%s\033[K", line(done, note, terminal_width()).c_str());
    std::fflush(stderr);
    bar_on_screen = true;
  }
  note_message_written();
  drawn_ = true;
  shown_ = time;
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  if (quiet_) return;
  if (!plain_)
    clear_progress_line();
  else if (drawn_)
    std::fprintf(stderr, "rwkvx: %s\n", line(last_done_, last_note_, 0).c_str());
}

}  // namespace rwkvx
