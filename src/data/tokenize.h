// Documents to tokens, on several threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/manifest_store.h"
#include "rwkvx/config/train_config.h"
#include "rwkvx/data/corpus.h"

namespace rwkvx {

// Sources as an error or a warning names them.
std::string names(const std::vector<std::string>& sources);

// A token file that was built and is not yet seen.
struct Built {
  std::unique_ptr<TokenFileWriter> writer;
  std::string first_skipped;  // the message about it
};

// Writes the token file `prefix`, not yet seen, and the counts into `manifest`.
Built tokenize_all(const std::vector<std::string>& sources, const DataConfig& config,
                   const Tokenizer& tokenizer, const std::filesystem::path& prefix,
                   std::int64_t threads, bool quiet, TextPart part, TokenManifest& manifest);

// Puts a pair in place. A manifest that says so stands beside it until both files are there.
void put_in_place(Built& built, const TokenFilePaths& paths, const TokenManifest& manifest);

// Warns of what was kept or left out.
void warn_of(const std::vector<std::string>& sources, const Built& built,
             const TokenManifest& manifest);

// Each as open_text() gives it.
OpenTexts open_texts(const std::vector<std::string>& sources);

}  // namespace rwkvx
