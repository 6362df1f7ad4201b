#include "cli/model_flags.h"

#include <CLI/CLI.hpp>

#include "cli/arguments.h"
#include "rwkvx/generate/generator.h"

namespace rwkvx {

void add_model_flags(CLI::App& command, std::string& model, GeneratorOptions& options) {
  command.add_option("--model", model, "checkpoint, run directory, .safetensors or .pth file")
      ->required()
      ->type_name("PATH");
  command
      .add_option("--tokenizer", options.tokenizer,
                  std::string("with a weights file: ") + kTokenizerNames)
      ->type_name("PATH");
}

void add_machine_flags(CLI::App& command, GeneratorOptions& options) {
  command.add_option("--threads", options.threads, "CPU threads; 0 = automatic [0]")
      ->type_name("N")
      ->check(at_least(0));
  command.add_option("--device", options.device, "auto, cpu or cuda:N [auto]")->type_name("NAME");
}

}  // namespace rwkvx
