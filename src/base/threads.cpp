#include "rwkvx/base/threads.h"

#include <atomic>

#include "rwkvx/base/workers.h"

namespace rwkvx {
namespace {

std::atomic<int> threads{0};  // 0: not set

}  // namespace

void set_team_threads(std::int64_t wanted) { threads = static_cast<int>(thread_count(wanted)); }

int team_threads() {
  if (threads == 0) set_team_threads(0);
  return threads;
}

}  // namespace rwkvx
