// What data sets come from: files of lines, and synthetic text.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "rwkvx/base/json_file.h"
#include "rwkvx/study/grid.h"

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

// Writes the synthetic text of a data set into `folder`/synth: documents to train on, others to
// test on, and prompts with what follows from others still.
struct SynthSet {
  std::filesystem::path train, test, pairs;
};
SynthSet write_synth_set(const DataSetConfig& config, const MeasureConfig& measure,
                         const std::filesystem::path& folder);

}  // namespace rwkvx
