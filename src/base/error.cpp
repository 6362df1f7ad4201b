#include "rwkvx/base/error.h"

#include <algorithm>

namespace rwkvx {
namespace {

// Messages carry file names and file contents; a line break in one would break "one line".
std::string one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  return text;
}

}  // namespace

Error::Error(const std::string& where, const std::string& reason)
    : std::runtime_error(one_line(where.empty() ? reason : where + ": " + reason)) {}

}  // namespace rwkvx
