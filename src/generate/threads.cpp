#include "rwkvx/generate/threads.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <thread>

namespace rwkvx {

void set_threads(std::int64_t threads) {
  const auto all = static_cast<std::int64_t>(std::max(1u, std::thread::hardware_concurrency()));
  at::set_num_threads(static_cast<int>(threads > 0 ? threads : all));
}

}  // namespace rwkvx
