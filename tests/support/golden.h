// Where the golden vectors lie: RWKVX_GOLDEN_DIR, or ../shared/golden beside the project.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace rwkvx::test {

inline std::filesystem::path golden_dir() {
  const char* given = std::getenv("RWKVX_GOLDEN_DIR");
  return given != nullptr ? given : std::filesystem::path(RWKVX_SOURCE_DIR) / "../shared/golden";
}

}  // namespace rwkvx::test

// Skips the test, saying why, where a folder of golden vectors ("model", "rouge") is not there.
#define RWKVX_NEEDS_GOLDEN(folder)                                                           \
  if (!std::filesystem::is_directory(rwkvx::test::golden_dir() / (folder)))                  \
  GTEST_SKIP() << "no golden vectors at " << (rwkvx::test::golden_dir() / (folder)).string() \
               << "; set RWKVX_GOLDEN_DIR to have them checked"
