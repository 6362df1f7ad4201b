// Where the golden vectors lie: what independent programs give (tests/golden/README.md).
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace rwkvx::test {

// The directories of golden vectors called `name` ("model", "rouge", "bleu", "stem"): the project's
// own, and a larger set of the same form, in RWKVX_GOLDEN_DIR or in ../shared/golden beside the
// project, where there is one.
inline std::vector<std::filesystem::path> golden_dirs(const std::string& name) {
  const std::filesystem::path project(RWKVX_SOURCE_DIR);
  const char* given = std::getenv("RWKVX_GOLDEN_DIR");
  std::vector<std::filesystem::path> found{project / "tests/golden" / name};
  const auto more = (given != nullptr ? given : project / "../shared/golden") / name;
  if (std::filesystem::is_directory(more)) found.push_back(more);
  return found;
}

}  // namespace rwkvx::test

// Runs the statement that follows for each of them, as `golden`, and names it where it fails.
#define RWKVX_FOR_EACH_GOLDEN(name)                                            \
  for (const std::filesystem::path& golden : ::rwkvx::test::golden_dirs(name)) \
    if (const ::testing::ScopedTrace golden_trace(__FILE__, __LINE__, golden); true)
