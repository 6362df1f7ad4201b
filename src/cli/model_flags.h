// The flags of commands that run a model.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace rwkvx {

struct GeneratorOptions;

// --model, and --tokenizer for a file of weights.
void add_model_flags(CLI::App& command, std::string& model, GeneratorOptions& options);
// --threads and --device.
void add_machine_flags(CLI::App& command, GeneratorOptions& options);

}  // namespace rwkvx
