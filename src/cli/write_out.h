// Results that go out at once, as they come.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "rwkvx/base/error.h"

namespace rwkvx {

// Writes all of it to standard output at once; false where nobody reads any more, which is no
// error.
inline bool write_out(std::string_view text) {
  while (!text.empty()) {
    const auto written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EPIPE) return false;
    if (written < 0)
      throw FileError("standard output", std::string("cannot write: ") + std::strerror(errno));
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

}  // namespace rwkvx
