// How many threads the engine's calls take.
#pragma once

#include <cstdint>

namespace rwkvx {

// 0: automatic (base/processors.h). Holds for the whole process, from the next call on.
void set_team_threads(std::int64_t wanted);
int team_threads();

}  // namespace rwkvx
