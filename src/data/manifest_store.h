// How manifests are made, written and compared with what lies on the disk.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "rwkvx/base/text_file.h"
#include "rwkvx/config/train_config.h"
#include "rwkvx/data/corpus.h"

namespace rwkvx {

// A pipe's copy is kept as long as one of these.
using OpenTexts = std::vector<std::shared_ptr<const TextFile>>;

// What tokens of these sources, settings and tokenizer would be called. Hashes the sources.
TokenManifest describe(const OpenTexts& texts, const DataConfig& config, const Tokenizer& tokenizer,
                       TextPart part);

// `complete` is false while the pair is put in place, so that whoever finds it knows that it is
// ours and of no use.
std::string manifest_text(const TokenManifest& manifest, bool complete);

// Opens the pair at `prefix` where it holds the tokens that `wanted` describes, and takes over the
// counts; nullptr where it does not.
std::unique_ptr<const TokenFile> open_reusable(const std::filesystem::path& prefix,
                                               TokenManifest& wanted);

// Throws FileError where files of these names are not known to be ours.
void refuse_foreign(const TokenFilePaths& paths);

}  // namespace rwkvx
