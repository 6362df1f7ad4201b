// The flags of commands that run a model.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace rwkvx {

struct GeneratorOptions;

inline constexpr const char* kModelHelp =
    "checkpoint or run directory, .pth, .safetensors or .gguf file, or a directory of the "
    "transformers library";
std::string tokenizer_flag_help();
// --model and --tokenizer, which `tokenizer` is set to.
void add_model_flags(CLI::App& command, std::string& model, std::string& tokenizer);
void add_model_flags(CLI::App& command, std::string& model, GeneratorOptions& options);
// --threads and --device.
void add_machine_flags(CLI::App& command, GeneratorOptions& options);

}  // namespace rwkvx
