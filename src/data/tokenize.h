// Documents to tokens, on several threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

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

}  // namespace rwkvx
