// What the entries of data.train, data.valid and --input name: texts and token files.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "rwkvx/data/token_file.h"

namespace rwkvx {

struct Sources {
  std::vector<std::string> texts;             // as open_text() takes them
  std::vector<std::filesystem::path> tokens;  // prefixes of token files
};

// Each entry is a file, a pipe or "-"; a directory, which stands for the texts and token files in
// it and below it; or, where there is no such file, a pattern with *, ? or [. What a directory or a
// pattern gives is sorted by name; of a token file its .idx stands for all. Throws DataError for
// one that gives nothing, ConfigError naming `where` for no entry at all.
Sources find_sources(const std::vector<std::string>& entries, const std::string& where);

// The texts alone. Throws DataError for a token file.
std::vector<std::string> find_texts(const std::vector<std::string>& entries,
                                    const std::string& where);

}  // namespace rwkvx
