// What data sets read of the files they come from.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace rwkvx {

// Throws DataError where there is no such file.
void require_source(const std::filesystem::path& path);

// A line {"prompt": …, "reference": …} with `references` in place of the one where it has them;
// until `use` returns false. Throws DataError naming file and line for another line.
void for_each_pair(const std::filesystem::path& path,
                   const std::function<bool(const std::string& prompt,
                                            const std::vector<std::string>& references)>& use);

}  // namespace rwkvx
