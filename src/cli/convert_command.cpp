#include <CLI/CLI.hpp>
#include <memory>
#include <optional>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/convert_adapter.h"
#include "cli/model_flags.h"
#include "cli/output.h"
#include "cli/outputs.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/convert/convert.h"

namespace rwkvx {
namespace {

struct ConvertFlags {
  std::string input, output, to, type, tokenizer, base;
  AdapterChoice adapters;
  bool drop_enhancement = false, overwrite = false, json = false;
};

ModelFormat find_format(const ConvertFlags& flags) {
  const auto by_name = format_by_name(flags.output);
  if (flags.to.empty()) {
    if (by_name) return *by_name;
    throw ConfigError("--to",
                      "is required, as the name " + flags.output +
                          " does not show the format: hf or checkpoint for a directory, or a name "
                          "that ends in .pth, .safetensors or .gguf");
  }
  const auto format = read_enum<ModelFormat>(flags.to, "--to");
  if (by_name && *by_name != format)
    throw ConfigError("--to", "is " + flags.to + ", but " + flags.output + " is the name of a " +
                                  enum_name(*by_name) + "; choose another name");
  return format;
}

void print_converted(const ConvertFlags& flags, const std::string& format,
                     const ConvertResult& result) {
  if (flags.json) {
    print(nlohmann::ordered_json{{"output", flags.output},
                                 {"format", format},
                                 {"tensors", result.tensors},
                                 {"bytes", result.bytes},
                                 {"notes", result.notes}}
              .dump() +
          "\n");
  } else {
    print_row("output", flags.output + " (" + format + ")");
    print_row("weights", std::to_string(result.tensors) + " tensors, " +
                             bytes_text(static_cast<double>(result.bytes)));
    for (const auto& note : result.notes) print_row("note", note);
  }
  finish_output();
}

void run_convert(const CLI::App& command, const ConvertFlags& flags) {
  if (is_adapter_format(flags.to) || (!flags.input.empty() && looks_like_adapter(flags.input))) {
    refuse_idle(command,
                {"--type", "--tokenizer", "--drop-enhancement", "--merge", "--adapter-any-base"},
                "is for models, and the adapter " + flags.input + " is none");
    const auto format = adapter_format(flags.to, flags.output);
    return print_converted(flags, format,
                           convert_adapter(flags.input, flags.output, format, flags.base,
                                           flags.adapters.alpha, flags.overwrite));
  }
  refuse_idle(command, {"--base"}, "is for adapters, and " + flags.input + " is none");
  check_adapter_flags(command, flags.adapters);
  ConvertOptions options;
  options.format = find_format(flags);
  if (!flags.type.empty()) options.type = read_enum<StoredType>(flags.type, "--type");
  options.drop_enhancement = flags.drop_enhancement;
  options.overwrite = flags.overwrite;
  refuse_same_file("OUT", flags.output, {{"IN", flags.input}});
  refuse_model_file("OUT", flags.output, flags.input);
  refuse_adapter_file("OUT", flags.output, flags.adapters);
  const auto source = merged_model(open_model(flags.input), flags.adapters);
  std::unique_ptr<Tokenizer> tokenizer;
  if (!flags.tokenizer.empty() || source.has_tokenizer())
    tokenizer = open_tokenizer(source, flags.tokenizer);
  options.tokenizer = tokenizer.get();
  print_converted(flags, enum_name(options.format), convert_model(source, flags.output, options));
}

}  // namespace

void add_convert_command(CLI::App& app) {
  auto* command = app.add_subcommand(
      "convert", "Write a model in another format, with its tokenizer, or an adapter");
  auto flags = std::make_shared<ConvertFlags>();
  command->add_option("input", flags->input, std::string(kModelHelp) + "; or an adapter")
      ->required()
      ->type_name("IN");
  command->add_option("output", flags->output, "file or directory to create")
      ->required()
      ->type_name("OUT");
  command
      ->add_option("--to", flags->to,
                   "pth (official), safetensors (official names), hf (a directory for the "
                   "transformers library), gguf (llama.cpp, RWKV-7) or checkpoint (ours); of an "
                   "adapter adapter (ours) or rwkv-peft [by OUT's ending]")
      ->type_name("FORMAT");
  command
      ->add_option("--type", flags->type, "f32, bf16, f16, or with gguf q8_0 [that of each tensor]")
      ->type_name("NAME");
  command->add_option("--tokenizer", flags->tokenizer, tokenizer_flag_help())->type_name("PATH");
  add_adapter_flags(*command, flags->adapters, "--merge");
  command
      ->add_option("--base", flags->base,
                   "of an adapter: the model that it is for, which is checked and recorded")
      ->type_name("PATH");
  command->add_flag("--drop-enhancement", flags->drop_enhancement,
                    "leave out the gated positional shift, which only a checkpoint and files of "
                    "tensors can hold");
  command->add_flag("--overwrite", flags->overwrite, "replace OUT where it exists");
  command->add_flag("--json", flags->json, "print a JSON object");
  command->footer(
      "Examples:\n"
      "  rwkvx convert RWKV-x070-World-0.1B.pth model.gguf --type q8_0 --tokenizer "
      "rwkv_vocab_v20230424.txt\n"
      "  rwkvx convert runs/mine mine.pth --drop-enhancement --type bf16\n"
      "  rwkvx convert hf-model-directory runs/imported --to checkpoint\n"
      "  rwkvx convert base.pth merged.pth --merge adapter.safetensors\n"
      "  rwkvx convert adapter.safetensors lora.pth --to rwkv-peft");
  command->callback([command, flags] { run_convert(*command, *flags); });
}

}  // namespace rwkvx
