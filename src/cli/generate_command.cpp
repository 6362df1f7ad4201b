#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <map>
#include <utility>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/interactive.h"
#include "cli/settings.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/config/generate_config.h"
#include "rwkvx/generate/batch.h"
#include "rwkvx/generate/generator.h"
#include "rwkvx/text/utf8.h"

namespace rwkvx {
namespace {

struct GenerateFlags {
  std::string model, prompt_file, load_state, save_state;
  std::optional<std::string> prompt;
  GeneratorOptions generator;
  std::int64_t cache_mib = 1024;
  BatchOptions batch;
  bool echo = false, events = false, interactive = false;
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
  std::string text, where = "--prompt";
  if (flags.prompt) {
    text = *flags.prompt;
  } else if (!flags.prompt_file.empty()) {
    text = read_file(where = flags.prompt_file);
  } else {
    where = "standard input";
    if (::isatty(STDIN_FILENO) != 0)
      std::fputs("rwkvx: reading the prompt from the terminal, end it with Ctrl-D\n", stderr);
    text = {std::istreambuf_iterator<char>(std::cin), {}};
  }
  if (count_invalid_utf8(text) > 0)
    throw DataError(where, "wanted UTF-8 text, found bytes that are none");
  return text;
}

std::string event_line(const nlohmann::ordered_json& event) {
  return event.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

// One prompt, its text or its events to standard output.
void run_prompt(Generator& generator, const GenerateFlags& flags, const GenerateConfig& config) {
  using Clock = std::chrono::steady_clock;
  Session session(generator);
  if (!flags.load_state.empty()) session.load(flags.load_state);
  const auto prompt = read_prompt(flags);
  const InterruptGuard guard;
  bool open = !flags.echo || flags.events || write_out(prompt);
  auto last = Clock::now();
  const auto since = [&] {
    const auto now = Clock::now();
    return std::chrono::duration<double, std::milli>(now - std::exchange(last, now)).count();
  };
  session.feed(prompt);
  if (flags.events)
    open = write_out(
        event_line({{"event", "prompt"}, {"tokens", session.tokens()}, {"milliseconds", since()}}));
  const auto show = [&](const DrawnToken& one) {
    if (!flags.events) return open = open && write_out(one.text);
    return open = open && write_out(event_line({{"event", "token"},
                                                {"token", one.token},
                                                {"text", one.text},
                                                {"logprob", one.logprob},
                                                {"milliseconds", since()}}));
  };
  const auto result = session.draw(config, show, /*sequence=*/0, /*keep_text=*/false);
  if (open)
    open = write_out(flags.events ? event_line({{"event", "end"},
                                                {"ended_by", result.ended_by},
                                                {"tokens", result.tokens},
                                                {"logprob", result.logprob}})
                                  : "\n");
  if (!flags.save_state.empty()) session.save(flags.save_state);
  end_if_interrupted();  // the text so far is out
}

// Several continuations of one prompt as JSON lines.
void run_samples(Generator& generator, const GenerateFlags& flags, const GenerateConfig& config) {
  std::optional<Generator::Request> request{{read_prompt(flags), 0, flags.batch.samples}};
  const InterruptGuard guard;
  std::map<std::int64_t, std::string> lines;
  generator.generate_many(
      flags.batch.slots, config, [&] { return std::exchange(request, std::nullopt); },
      [&](std::int64_t, std::int64_t sample, const Continuation& one) {
        lines[sample] = event_line({{"sample", sample},
                                    {"prediction", one.text},
                                    {"tokens", one.tokens},
                                    {"logprob", one.logprob},
                                    {"ended_by", one.ended_by}});
      });
  for (const auto& [sample, line] : lines)
    if (!write_out(line)) break;
  end_if_interrupted();
}

void run_generate(GenerateFlags& flags, const nlohmann::json& given) {
  const auto config = settings_from_flags<GenerateConfig>(given);
  const auto refuse_together = [](bool first, const char* a, bool second, const char* b) {
    if (first && second) throw ConfigError(a, std::string("cannot be given together with ") + b);
  };
  const bool batch = !flags.batch.input.empty(), several = flags.batch.samples > 1;
  refuse_together(!flags.prompt_file.empty(), "--prompt-file", flags.prompt.has_value(),
                  "--prompt");
  refuse_together(flags.interactive, "--interactive", flags.events, "--json-events");
  refuse_together(flags.interactive, "--interactive", !flags.save_state.empty(),
                  "--save-state; use /save");
  refuse_together(batch, "--input", flags.prompt || !flags.prompt_file.empty(), "a prompt");
  for (const auto& [is_given, name] :
       {std::pair{!flags.load_state.empty(), "--load-state"},
        std::pair{!flags.save_state.empty(), "--save-state"},
        std::pair{flags.events, "--json-events"}, std::pair{flags.interactive, "--interactive"}}) {
    refuse_together(is_given, name, batch, "--input");
    refuse_together(is_given, name, several, "--samples");
  }
  if (batch && flags.batch.output.empty())
    throw ConfigError("--output", "is wanted with --input: the file for the continuations");
  if (!batch && !flags.batch.output.empty())
    throw ConfigError("--output", "goes with --input; a single text goes to standard output");
  std::signal(SIGPIPE, SIG_IGN);
  flags.generator.prompt_cache_bytes = flags.cache_mib << 20;
  Generator generator(flags.model, flags.generator);
  if (batch) {
    generate_batch(generator, config, flags.batch);
    end_if_interrupted();  // the same command goes on
  } else if (flags.interactive) {
    Session session(generator);
    if (!flags.load_state.empty()) session.load(flags.load_state);
    if (flags.prompt || !flags.prompt_file.empty()) session.feed(read_prompt(flags));
    run_interactive(generator, std::move(session), config);
  } else if (several) {
    run_samples(generator, flags, config);
  } else {
    run_prompt(generator, flags, config);
  }
}

}  // namespace

void add_generate_command(CLI::App& app) {
  auto* command = app.add_subcommand(
      "generate", "Continue a prompt or a file of prompts; only the text goes to standard output");
  auto flags = std::make_shared<GenerateFlags>();
  auto given = std::make_shared<nlohmann::json>();
  command->add_option("--model", flags->model, "checkpoint, run folder, .safetensors or .pth file")
      ->required()
      ->type_name("PATH");
  command
      ->add_option("--tokenizer", flags->generator.tokenizer,
                   "with a file of weights: tokenizer folder, .model or RWKV-World .txt")
      ->type_name("PATH");
  command
      ->add_option_function<std::string>(
          "--prompt", [flags](const std::string& text) { flags->prompt = text; },
          "text to continue; else --prompt-file or standard input")
      ->type_name("TEXT");
  command->add_option("--prompt-file", flags->prompt_file, "file with the text to continue")
      ->type_name("FILE");
  add_setting_flags<GenerateConfig>(*command, given);
  command->add_flag("--echo", flags->echo, "print the prompt before its continuation");
  command->add_flag("--json-events", flags->events,
                    "print a JSON line for every token: id, text, logprob, milliseconds");
  command->add_flag("--interactive", flags->interactive,
                    "a conversation on the terminal; /help there tells the commands");
  command
      ->add_option("--samples", flags->batch.samples,
                   "continuations of each prompt; several are printed as JSON lines [1]")
      ->type_name("N")
      ->check(at_least(1));
  command->add_option("--input", flags->batch.input, "JSON lines with a prompt each")
      ->type_name("FILE");
  command
      ->add_option("--output", flags->batch.output,
                   "with --input: JSON lines with the continuations; goes on where it ends")
      ->type_name("FILE");
  command
      ->add_option("--prompt-field", flags->batch.prompt_field,
                   "with --input: name of the prompt [prompt]")
      ->type_name("NAME");
  command->add_option("--batch", flags->batch.slots, "sequences decoded together [16]")
      ->type_name("N")
      ->check(at_least(1));
  command->add_flag("--overwrite", flags->batch.overwrite, "with --output: begin anew");
  command->add_flag("--quiet", flags->batch.quiet, "with --input: no progress");
  command
      ->add_option("--load-state", flags->load_state,
                   "go on from a state that --save-state wrote; the prompt may be empty")
      ->type_name("FILE");
  command->add_option("--save-state", flags->save_state, "keep the state after the text")
      ->type_name("FILE");
  command
      ->add_option("--prompt-cache", flags->generator.prompt_cache,
                   "folder where states of prompts' beginnings are kept and found again")
      ->type_name("DIR");
  command->add_option("--prompt-cache-mib", flags->cache_mib, "size of that folder at most [1024]")
      ->type_name("N")
      ->check(at_least(1));
  command
      ->add_option("--threads", flags->generator.threads, "processor threads; 0: one per core [0]")
      ->type_name("N")
      ->check(at_least(0));
  command->add_option("--device", flags->generator.device, "auto, cpu or cuda:N [auto]")
      ->type_name("NAME");
  command->callback([flags, given] { run_generate(*flags, *given); });
}

}  // namespace rwkvx
