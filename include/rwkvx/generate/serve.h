// A process that stays: requests as JSON lines in, events as JSON lines out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

#include "rwkvx/generate/generator.h"

namespace rwkvx {

struct ServeOptions {
  GenerateConfig settings;        // of requests that do not name theirs
  std::int64_t top_logprobs = 0;  // likewise
  bool prompt_logprobs = false;   // likewise
  std::int64_t slots = 16;        // texts that are decoded together
  std::int64_t waiting = 1000;    // requests that may wait for a slot; then reading waits
  std::int64_t keep_bytes = std::int64_t{1} << 30;   // of kept states
  std::size_t line_bytes = std::size_t{16} << 20;    // a longer line is an error of that line
  std::function<bool(std::string_view)> write_line;  // false: nobody reads any more
};

// Answers the requests that come from the descriptor `input` until it ends and all are answered, or
// a signal comes (of the InterruptGuard that the caller has). docs/serve.md has requests and
// events. A text is the same as that of Session with the same settings, whatever runs beside it.
// What is wrong with a request is an event; throws FileError where the input cannot be read or the
// output cannot be written.
void serve(Generator& generator, const ServeOptions& options, int input);

}  // namespace rwkvx
