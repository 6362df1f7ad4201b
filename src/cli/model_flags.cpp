#include "cli/model_flags.h"

#include <CLI/CLI.hpp>

#include "cli/arguments.h"
#include "rwkvx/base/output_file.h"
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
  add_adapter_flags(command, options.adapters);
}

void add_model_flags(CLI::App& command, std::string& model, std::string& tokenizer) {
  add_model(command, model);
  command.add_option("--tokenizer", tokenizer, tokenizer_flag_help())->type_name("PATH");
}

void add_adapter_flags(CLI::App& command, AdapterChoice& adapters, const char* name) {
  adapters.option = name;
  const bool merge = adapters.option == "--merge";
  command
      .add_option(name, adapters.files,
                  std::string(merge ? "merge this adapter (LoRA, shift) into the weights"
                                    : "run the model with this adapter (LoRA, initial state, "
                                      "shift)") +
                      "; FILE:0.5 scales a LoRA; repeat for several, applied in order")
      ->type_name("FILE[:SCALE]")
      ->expected(1)
      ->take_all();
  command
      .add_option("--adapter-alpha", adapters.alpha,
                  "alpha of a LoRA whose file holds none, as RWKV-PEFT's [32]")
      ->type_name("X")
      ->check(between(1e-6, 1e6));
  command.add_flag("--adapter-any-base", adapters.any_base,
                   "also take an adapter that was trained on other weights, if its sizes fit");
}

void check_adapter_flags(const CLI::App& command, const AdapterChoice& adapters) {
  if (adapters.files.empty())
    refuse_idle(command, {"--adapter-alpha", "--adapter-any-base"}, "needs " + adapters.option);
}

void refuse_adapter_file(const std::string& option, const std::string& output,
                         const AdapterChoice& adapters) {
  for (const auto& file : adapters.files)
    refuse_same_file(option, output,
                     {{adapters.option, parse_adapter_use(file, adapters.option).path}});
}

void add_machine_flags(CLI::App& command, GeneratorOptions& options, const char* device_help) {
  command.add_option("--threads", options.threads, "CPU threads; 0 = automatic [0]")
      ->type_name("N")
      ->check(at_least(0));
  command.add_option("--device", options.device, device_help)->type_name("NAME");
}

}  // namespace rwkvx
