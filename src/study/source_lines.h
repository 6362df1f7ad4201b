// What data sets read of the files they come from.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "rwkvx/base/json_file.h"

namespace rwkvx {

// Throws DataError where there is no such file.
void require_source(const std::filesystem::path& path);

// Lines of a file as objects, with the place that messages name, until `use` returns false; empty
// lines are none.
void for_each_line(const std::filesystem::path& path,
                   const std::function<bool(const JsonObject& line, const nlohmann::json& item,
                                            const std::string& where)>& use);

// A line {"prompt": …, "reference": …} with `references` in place of the one where it has them;
// until `use` returns false. Throws DataError naming file and line for another line.
void for_each_pair(const std::filesystem::path& path,
                   const std::function<bool(const std::string& prompt,
                                            const std::vector<std::string>& references)>& use);

}  // namespace rwkvx
