#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/model_flags.h"
#include "cli/outputs.h"
#include "cli/torch_part.h"
#include "cli/write_out.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"
#include "rwkvx/base/text_file.h"
#include "rwkvx/generate/embed.h"

namespace rwkvx {
namespace {

struct EmbedFlags {
  std::string model, input, output, pool = "mean";
  GeneratorOptions generator;
  EmbedOptions embed;
};

void check_flags(const CLI::App& command, const EmbedFlags& flags) {
  check_adapter_flags(command, flags.generator.adapters);
  if (flags.embed.text && !flags.input.empty())
    throw ConfigError("--text", "cannot be given together with --input");
  if (flags.embed.text) refuse_idle(command, {"--field"}, "needs --input");
  if (!flags.embed.text && flags.input.empty() && ::isatty(STDIN_FILENO) != 0)
    throw ConfigError("--input", "expected --text, --input FILE, or lines on standard input");
  if (flags.output.empty() || flags.output == "-") return;
  check_output("--output", flags.output,
               {{"--input", flags.input}, {"--tokenizer", flags.generator.tokenizer}}, flags.model);
  refuse_adapter_file("--output", flags.output, flags.generator.adapters);
}

void run_embed(const CLI::App& command, EmbedFlags& flags) {
  flags.embed.pooling = read_enum<Pooling>(flags.pool, "--pool");
  check_flags(command, flags);
  std::shared_ptr<const TextFile> text;
  if (!flags.embed.text) {
    flags.embed.input = flags.input.empty() ? "-" : flags.input;
    text = open_text(flags.embed.input);  // a pipe is read once, as long as this lives
    flags.embed.input_name = text->name();
    flags.embed.json_lines = text->json_lines();
    if (!flags.embed.json_lines)
      refuse_idle(command, {"--field"},
                  "needs JSON lines, and " + text->name() + " holds lines of text");
  }
  if (flags.output.empty() || flags.output == "-")
    flags.embed.write_line = write_out;
  else
    flags.embed.output = flags.output;
  Generator generator(flags.model, flags.generator);
  embed_texts(generator, flags.embed);
}

}  // namespace

void add_embed_command(CLI::App& app) {
  auto* command = app.add_subcommand("embed", "Turn texts into vectors: a model's hidden states");
  auto flags = std::make_shared<EmbedFlags>();

  command->option_defaults()->group("Input");
  add_model_flags(*command, flags->model, flags->generator);
  command
      ->add_option_function<std::string>(
          "--text", [flags](const std::string& text) { flags->embed.text = text; },
          "one text; else --input or standard input")
      ->type_name("TEXT");
  command
      ->add_option("--input", flags->input,
                   "JSON lines with a text each, or lines of text: a file, a pipe, or - for "
                   "standard input [-]")
      ->type_name("FILE");
  command
      ->add_option("--field", flags->embed.field,
                   "with JSON lines: name of the field with the text [text]")
      ->type_name("NAME");

  command->option_defaults()->group("Vectors");
  command
      ->add_option("--pool", flags->pool,
                   "mean over the tokens, or the state after the last one: mean, last [mean]")
      ->type_name("NAME");
  command->add_flag("--normalize", flags->embed.normalize, "divide each by its length (L2 norm)");

  command->option_defaults()->group("Output");
  command
      ->add_option("--output", flags->output,
                   "a name that ends in .npy: NumPy's float32 matrix with a row per text; other "
                   "names: JSON lines; - for standard output [-]")
      ->type_name("FILE");
  command->add_flag("--quiet", flags->embed.quiet, "no progress");

  command->option_defaults()->group("Machine");
  add_machine_flags(*command, flags->generator);
  command->footer(
      "Example:\n"
      "  rwkvx embed --model runs/mine --input texts.jsonl --pool mean --normalize \\\n"
      "    --output vectors.npy");
  command->callback([command, flags] {
    hand_over_for_device(flags->generator.device, "--device");
    run_embed(*command, *flags);
  });
}

}  // namespace rwkvx
