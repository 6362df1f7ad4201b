// The number of threads that LibTorch and the engine use.
#pragma once

#include <cstdint>

namespace rwkvx {

// 0: automatic.
void set_threads(std::int64_t threads);

}  // namespace rwkvx
