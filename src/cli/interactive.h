// A conversation with a model on the terminal.
#pragma once

#include "rwkvx/generate/generate_config.h"
#include "rwkvx/generate/generator.h"

namespace rwkvx {

// Reads lines with an editor that has a history, appends each with a line break to the text and
// prints what the model draws. A line that ends with a backslash goes on in the next; "/help" tells
// the commands. SIGINT ends a reply. Returns at the end of the input.
void run_interactive(Generator& generator, Session session, const GenerateConfig& config);

}  // namespace rwkvx
