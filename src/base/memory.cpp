#include "rwkvx/base/memory.h"

#include <fstream>
#include <string>
#include <string_view>

namespace rwkvx {
namespace {

// A line "NAME: 1234 kB" of the process's status, in bytes. getrusage() is no use for the peak:
// after an exec it still holds what the calling process had.
double status_line(std::string_view name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(name)) return std::stod(line.substr(name.size())) * 1024;
  return 0;
}

}  // namespace

double peak_memory_bytes() { return status_line("VmHWM:"); }
double resident_memory_bytes() { return status_line("VmRSS:"); }

}  // namespace rwkvx
