// Prompt and continuation pairs cut from running text, to score a model's continuations with.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "rwkvx/config/train_config.h"

namespace rwkvx {

struct PromptPair {
  std::string prompt;     // as it stands in the text, ends with white space before the reference
  std::string reference;  // the words that follow
};

struct PairCutting {
  std::int64_t count = 32;
  std::int64_t prompt_words = 40;
  std::int64_t reference_words = 40;
};

// Cuts `count` pairs, evenly spread and without overlap, from the part of the text that `data`
// keeps for validation (all of data.valid where that is given). Words are what white space parts; a
// pair never reaches over the end of a document. Fewer pairs come back where the text is too short
// for all. Throws DataError where it is too short for one, FileError for a missing file.
std::vector<PromptPair> cut_pairs(const DataConfig& data, const PairCutting& cutting);

// Writes pairs as JSON Lines with the fields id, prompt and reference.
void write_pairs(const std::filesystem::path& path, const std::vector<PromptPair>& pairs);

}  // namespace rwkvx
