// The only unit that sees spdlog: LibTorch ships another fmt whose headers would shadow spdlog's.
#include "rwkvx/base/log.h"

#include <poll.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>

#include "rwkvx/base/progress.h"

namespace rwkvx {
namespace {

std::atomic<bool> closed{false};

spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    spdlog::logger made("rwkvx", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made.set_pattern("rwkvx: %v");
    return made;
  }();
  return instance;
}

void say(spdlog::level::level_enum level, const std::string& message) {
  if (!logger().should_log(level)) return;
  clear_progress_line();
  errno = 0;
  logger().log(level, "{}", message);
  note_message_written();
}

}  // namespace

void set_log_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return logger().set_level(spdlog::level::debug);
    case LogLevel::kInfo:
      return logger().set_level(spdlog::level::info);
    case LogLevel::kWarning:
      return logger().set_level(spdlog::level::warn);
    case LogLevel::kError:
      return logger().set_level(spdlog::level::err);
    case LogLevel::kOff:
      return logger().set_level(spdlog::level::off);
  }
}

bool messages_closed() {
  pollfd messages{STDERR_FILENO, 0, 0};
  if (!closed && ::poll(&messages, 1, 0) == 1 && (messages.revents & POLLERR) != 0) closed = true;
  return closed;
}
void note_message_written() {
  if (errno == EPIPE && std::ferror(stderr) != 0) closed = true;
}

void log_debug(const std::string& message) { say(spdlog::level::debug, message); }
void log_info(const std::string& message) { say(spdlog::level::info, message); }
void log_warning(const std::string& message) { say(spdlog::level::warn, "warning: " + message); }

}  // namespace rwkvx
