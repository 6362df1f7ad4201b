#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "cli/commands.h"
#include "cli/settings.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/config/generate_config.h"
#include "rwkvx/generate/generator.h"

namespace rwkvx {
namespace {

struct GenerateFlags {
  std::string model, prompt_file, device = "auto";
  std::optional<std::string> prompt;
  std::int64_t threads = 0;
  bool echo = false;
};

// Writes all of it at once; false where nobody reads any more, which is no error.
bool write_out(std::string_view text) {
  while (!text.empty()) {
    const auto written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EPIPE) return false;
    if (written < 0)
      throw FileError("standard output", std::string("cannot write: ") + std::strerror(errno));
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

std::string read_prompt(const GenerateFlags& flags) {
  if (flags.prompt) return *flags.prompt;
  if (!flags.prompt_file.empty()) return read_file(flags.prompt_file);
  if (::isatty(STDIN_FILENO) != 0)
    std::fputs("rwkvx: reading the prompt from the terminal, end it with Ctrl-D\n", stderr);
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

void run_generate(const GenerateFlags& flags, const nlohmann::json& given) {
  const auto config = settings_from_flags<GenerateConfig>(given);
  if (flags.prompt && !flags.prompt_file.empty())
    throw ConfigError("--prompt-file", "cannot be given together with --prompt");
  std::signal(SIGPIPE, SIG_IGN);
  Generator generator(flags.model, flags.threads, flags.device);
  const auto prompt = read_prompt(flags);
  const InterruptGuard guard;
  bool open = !flags.echo || write_out(prompt);
  generator.generate(
      prompt, config, [&](std::string_view text) { return open = open && write_out(text); },
      /*sequence=*/0, /*keep_text=*/false);
  if (open) write_out("\n");
  end_if_interrupted();  // the text so far is out
}

}  // namespace

void add_generate_command(CLI::App& app) {
  auto* command =
      app.add_subcommand("generate", "Continue a prompt; only the text goes to standard output");
  auto flags = std::make_shared<GenerateFlags>();
  auto given = std::make_shared<nlohmann::json>();
  command->add_option("--model", flags->model, "checkpoint or run folder")
      ->required()
      ->type_name("DIR");
  command
      ->add_option("--prompt", flags->prompt,
                   "text to continue; else --prompt-file or standard input")
      ->type_name("TEXT");
  command->add_option("--prompt-file", flags->prompt_file, "file with the text to continue")
      ->type_name("FILE");
  add_setting_flags<GenerateConfig>(*command, given);
  command->add_flag("--echo", flags->echo, "print the prompt before its continuation");
  command->add_option("--threads", flags->threads, "processor threads; 0: one per core [0]")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--device", flags->device, "auto, cpu or cuda:N [auto]")->type_name("NAME");
  command->callback([flags, given] { run_generate(*flags, *given); });
}

}  // namespace rwkvx
