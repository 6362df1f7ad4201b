// A file of prompts to a file of continuations.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "rwkvx/generate/generator.h"

namespace rwkvx {

struct BatchOptions {
  std::filesystem::path input;   // JSON lines
  std::filesystem::path output;  // JSON lines, in the order of the prompts
  std::string prompt_field = "prompt";
  std::int64_t slots = 16;   // sequences that are decoded together
  std::int64_t samples = 1;  // continuations of each prompt
  bool overwrite = false;    // begin anew where the output was made with other settings
  bool quiet = false;
};

// Writes a line per continuation: the members of the prompt's line, then "sample" (where there are
// several), "prediction", "tokens", "logprob", "ended_by" and "settings", a hash of the model and
// of all settings that the texts depend on. An output that is there already is gone on with: its
// lines stay, an unfinished last one is cut off. Prompt number n draws from the random streams n
// samples, n samples + 1, …; what is written does not depend on slots or threads. Whatever ends the
// run, the output holds whole lines. Returns the number of lines in the output. Throws DataError
// naming line and field, or where the output belongs to other settings or prompts; FileError where
// it cannot be written.
std::int64_t generate_batch(Generator& generator, const GenerateConfig& config,
                            const BatchOptions& options);

}  // namespace rwkvx
