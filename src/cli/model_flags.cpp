#include "cli/model_flags.h"

#include <CLI/CLI.hpp>

#include "cli/arguments.h"
#include "rwkvx/generate/generator.h"

namespace rwkvx {
namespace {

void add_model(CLI::App& command, std::string& model) {
  command.add_option("--model", model, kModelHelp)->required()->type_name("PATH");
}

}  // namespace

std::string tokenizer_flag_help() {
  return std::string(kTokenizerNames) +
         "; without it, the checkpoint's or the one that lies beside the weights";
}

void add_model_flags(CLI::App& command, std::string& model, GeneratorOptions& options) {
  add_model(command, model);
  command.add_option("--tokenizer", options.tokenizer, tokenizer_flag_help())->type_name("PATH");
}

void add_model_flags(CLI::App& command, std::string& model, std::string& tokenizer) {
  add_model(command, model);
  command.add_option("--tokenizer", tokenizer, tokenizer_flag_help())->type_name("PATH");
}

void add_machine_flags(CLI::App& command, GeneratorOptions& options) {
  command.add_option("--threads", options.threads, "CPU threads; 0 = automatic [0]")
      ->type_name("N")
      ->check(at_least(0));
  command.add_option("--device", options.device, "auto, cpu or cuda:N [auto]")->type_name("NAME");
}

}  // namespace rwkvx
