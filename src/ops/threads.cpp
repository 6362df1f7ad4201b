#include "rwkvx/ops/threads.h"

#include <ATen/Parallel.h>

#include "rwkvx/base/threads.h"

namespace rwkvx {

void set_threads(std::int64_t threads) {
  set_team_threads(threads);
  at::set_num_threads(team_threads());
}

}  // namespace rwkvx
