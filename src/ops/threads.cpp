#include "rwkvx/ops/threads.h"

#include <ATen/Parallel.h>

#include "rwkvx/base/workers.h"

namespace rwkvx {

void set_threads(std::int64_t threads) {
  at::set_num_threads(static_cast<int>(thread_count(threads)));
}

}  // namespace rwkvx
