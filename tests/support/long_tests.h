// Tests that are slow by nature run a short form, unless RWKVX_LONG_TESTS is set.
#pragma once

#include <cstdlib>

namespace rwkvx::test {

inline bool long_tests() { return std::getenv("RWKVX_LONG_TESTS") != nullptr; }

// How often something is tried.
inline int rounds(int usual, int in_long_tests) { return long_tests() ? in_long_tests : usual; }

}  // namespace rwkvx::test
