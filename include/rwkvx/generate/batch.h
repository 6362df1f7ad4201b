// A file of prompts to a file of continuations.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "rwkvx/generate/generator.h"

namespace rwkvx {

struct BatchOptions {
  std::filesystem::path input;   // JSON lines; read more than once
  std::string input_name;        // what messages call it; empty: as the path
  std::filesystem::path output;  // JSON lines, in the order of the prompts
  // Takes the lines in the output's place, where set; false where nobody reads them any more,
  // which ends the run as SIGPIPE would.
  std::function<bool(std::string_view)> write_line{};
  std::string prompt_field = "prompt";
  std::int64_t slots = 16;   // sequences that are decoded together
  std::int64_t samples = 1;  // continuations of each prompt
  // Alternatives per token in "token_logprobs"; 0: none, and no such member.
  std::int64_t top_logprobs = 0;
  bool overwrite = false;  // begin anew where the output was made with other settings
  bool quiet = false;
};

// Writes a line per continuation: the members of the prompt's line, then "sample" (where there are
// several), "prediction", "tokens", "logprob", "ended_by", "token_logprobs" (where asked for) and
// "settings", a hash of the model and of all settings that the lines depend on. An output that
// exists already is resumed: its continuations stay, an unfinished last line is cut off, and where
// other members of the input's lines were changed meanwhile, the output's lines get them too.
// Prompt number n draws from the random streams n samples, n samples + 1, …; what is written does
// not depend on slots or threads. Whatever ends the run, the output holds whole lines. Returns the
// number of lines in the output. Throws DataError naming line and field for an input line without a
// prompt or with a member that the output writes itself, or where the output belongs to other
// settings or prompts and is left as it is; FileError where it cannot be written or another process
// writes it; Error where not every continuation could be made.
std::int64_t generate_batch(Generator& generator, const GenerateConfig& config,
                            const BatchOptions& options);

}  // namespace rwkvx
