// What a study found: tables, plots, tests, and each claim of the paper with its answer.
#pragma once

#include <filesystem>
#include <string>

namespace rwkvx {

// Reads the folder of a study (study/runner.h) as far as it is done, and writes OUTPUT/NAME.md with
// its drawings, page and numbers (results.json) in OUTPUT/NAME/. Cells that are not there are named
// in the report. Where they ran does not matter. Throws FileError and DataError; DataError where
// nothing is done yet.
void write_study_report(const std::filesystem::path& study, const std::filesystem::path& output,
                        const std::string& name);

}  // namespace rwkvx
