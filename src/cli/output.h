// Results on standard output.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

#include "rwkvx/base/error.h"

namespace rwkvx {

// Writes to standard output. Throws FileError where that fails, a full disk for one, so that a
// script does not take half a result for a whole one.
inline void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size())
    throw FileError("standard output", std::string("cannot write: ") + std::strerror(errno));
}

// Makes sure that everything printed has gone out; the last thing a command does.
inline void finish_output() {
  if (std::fflush(stdout) != 0)
    throw FileError("standard output", std::string("cannot write: ") + std::strerror(errno));
}

// "name          value" on a line of its own.
inline void print_row(const std::string& name, const std::string& value) {
  print(name + std::string(name.size() < 18 ? 18 - name.size() : 1, ' ') + value + "\n");
}

}  // namespace rwkvx
