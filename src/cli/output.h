// Results on standard output.
#pragma once

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

#include "rwkvx/base/error.h"

namespace rwkvx {

// Ends the command where standard output cannot be written: as a closed pipe ends any filter where
// nobody reads any more, else with FileError, so that a script does not take half a result for a
// whole one.
[[noreturn]] inline void fail_output() {
  if (errno == EPIPE) {
    std::signal(SIGPIPE, SIG_DFL);
    std::raise(SIGPIPE);
  }
  throw FileError("standard output", std::string("cannot write: ") + std::strerror(errno));
}

// Writes to standard output.
inline void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) fail_output();
}

// Makes sure that everything printed has gone out; the last thing a command does.
inline void finish_output() {
  if (std::fflush(stdout) != 0) fail_output();
  if (std::ferror(stdout) != 0) throw FileError("standard output", "cannot be written");
}

// "name          value" on a line of its own, the value from column `width` on.
inline void print_row(const std::string& name, const std::string& value, std::size_t width = 18) {
  print(name + std::string(name.size() < width ? width - name.size() : 1, ' ') + value + "\n");
}

}  // namespace rwkvx
