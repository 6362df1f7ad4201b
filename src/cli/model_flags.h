// The flags of commands that run a model.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace rwkvx {

struct AdapterChoice;
struct GeneratorOptions;

inline constexpr const char* kModelHelp =
    "checkpoint or run directory, .pth, .safetensors or .gguf file, or a directory of the "
    "transformers library";
std::string tokenizer_flag_help();
// --model and --tokenizer, which `tokenizer` is set to.
void add_model_flags(CLI::App& command, std::string& model, std::string& tokenizer);
void add_model_flags(CLI::App& command, std::string& model, GeneratorOptions& options);
// --adapter and what goes with it, which commands that change a model call --merge.
void add_adapter_flags(CLI::App& command, AdapterChoice& adapters, const char* name = "--adapter");
// Throws ConfigError where they were given and change nothing, and where an output (option, path)
// is one of the adapters.
void check_adapter_flags(const CLI::App& command, const AdapterChoice& adapters);
void refuse_adapter_file(const std::string& option, const std::string& output,
                         const AdapterChoice& adapters);
inline constexpr const char* kDeviceHelp = "auto, cpu or cuda:N [auto]";
// --threads and --device.
void add_machine_flags(CLI::App& command, GeneratorOptions& options,
                       const char* device_help = kDeviceHelp);

}  // namespace rwkvx
