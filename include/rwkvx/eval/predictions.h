// A model's continuations of a file of prompts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "rwkvx/eval/continuation_cache.h"
#include "rwkvx/generate/generate_config.h"
#include "rwkvx/generate/generator.h"

namespace rwkvx {

struct PromptFields {
  std::string prompt = "prompt", reference = "reference";
};

// Continues every prompt of a JSONL file and writes `output`, a JSONL file with id, prompt,
// reference (as it stands) and prediction per line, in the same order. Prompt number n draws from
// random stream n under the seed, so a prompt's continuation depends on its place alone. Returns
// the number of prompts. Throws DataError naming file, line and field for a line without them, and
// for a file without prompts; Error where it is interrupted. With a cache, what is in it is
// taken from there, and the rest is added as it is generated.
std::int64_t write_predictions(Generator& generator, const std::filesystem::path& prompts,
                               const PromptFields& fields, const GenerateConfig& config,
                               const std::filesystem::path& output, bool quiet = false,
                               ContinuationCache* cache = nullptr);

// Every setting that a generated text depends on, for a signature: "temp:0|top_k:0|…|seed:1".
std::string generation_signature(const GenerateConfig& config);

}  // namespace rwkvx
