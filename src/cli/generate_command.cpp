#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <map>
#include <utility>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/interactive.h"
#include "cli/model_flags.h"
#include "cli/outputs.h"
#include "cli/settings.h"
#include "cli/torch_part.h"
#include "cli/write_out.h"
#include "rwkvx/base/device_name.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/input.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/utf8.h"
#include "rwkvx/generate/batch.h"
#include "rwkvx/generate/events.h"
#include "rwkvx/generate/generate_config.h"
#include "rwkvx/generate/generator.h"
#include "rwkvx/generate/serve.h"

namespace rwkvx {
namespace {

struct GenerateFlags {
  std::string model, prompt_file, input, load_state, save_state;
  std::optional<std::string> prompt;
  GeneratorOptions generator;
  std::int64_t cache_mib = 1024;
  BatchOptions batch;
  bool echo = false, events = false, interactive = false, prompt_logprobs = false, serve = false;
  std::int64_t keep_mib = 1024;
};

std::string read_prompt(const GenerateFlags& flags, const Tokenizer& tokenizer) {
  std::string text, where = "--prompt";
  if (flags.prompt) {
    text = *flags.prompt;
  } else {
    const Input input(flags.prompt_file.empty() ? "-" : flags.prompt_file);
    text = read_file(input.path());
    where = input.name();
  }
  // As in eval: a text may have been cut within a character. Bytes are what a byte tokenizer takes.
  const auto invalid = count_invalid_utf8(text);
  if (invalid > 0 && tokenizer.kind() != "byte")
    log_warning(where + ": " + count_text(invalid) + " invalid UTF-8 " +
                (invalid == 1 ? "sequence" : "sequences") + ", kept as bytes");
  return text;
}

// One prompt, its text or its events to standard output.
void run_prompt(Generator& generator, const GenerateFlags& flags, const GenerateConfig& config) {
  using Clock = std::chrono::steady_clock;
  Session session(generator);
  if (!flags.load_state.empty()) session.load(flags.load_state);
  const auto prompt = read_prompt(flags, generator.tokenizer());
  const InterruptGuard guard;
  // A new text ends what an earlier continuation may have left open.
  const auto before = prompt.empty() ? std::string() : session.release_held();
  bool open = flags.events || write_out(before + (flags.echo ? prompt : ""));
  auto last = Clock::now();
  const auto since = [&] {
    const auto now = Clock::now();
    return std::chrono::duration<double, std::milli>(now - std::exchange(last, now)).count();
  };
  const auto& tokenizer = generator.tokenizer();
  const auto top = flags.batch.top_logprobs;
  ShowPromptToken show_prompt;
  if (flags.prompt_logprobs)
    show_prompt = [&](const PromptToken& one) {
      open = open && write_out(event_line(prompt_token_event(tokenizer, one, top > 0)));
    };
  session.feed(prompt, show_prompt, top);
  if (flags.events)
    open = open && write_out(event_line(prompt_event(session.tokens(), since(), before)));
  const auto show = [&](const DrawnToken& one) {
    if (!flags.events) return open = open && write_out(one.text);
    return open = open && write_out(event_line(token_event(tokenizer, one, since(), top > 0)));
  };
  const bool hold = !flags.save_state.empty();
  const auto result =
      session.draw(config, show, {.keep_text = false, .hold = hold, .top_logprobs = top});
  const auto after = hold ? std::string() : session.release_held();
  if (flags.events) {
    open = open && write_out(event_line(end_event(result, after)));
  } else {
    open = open && write_out(after + "\n");
  }
  if (!flags.save_state.empty()) session.save(flags.save_state);
  end_if_interrupted();  // the text so far is out
}

// Several continuations of one prompt as JSON lines.
void run_samples(Generator& generator, const GenerateFlags& flags, const GenerateConfig& config) {
  std::optional<Generator::Request> request{
      {read_prompt(flags, generator.tokenizer()), 0, flags.batch.samples}};
  const InterruptGuard guard;
  std::map<std::int64_t, std::string> lines;
  std::map<std::int64_t, nlohmann::ordered_json> drawn;  // the tokens of each sample
  Generator::ShowSampleToken show;
  const auto top = flags.batch.top_logprobs;
  if (top > 0)
    show = [&](std::int64_t, std::int64_t sample, const DrawnToken& one) {
      drawn[sample].push_back(token_logprob_json(generator.tokenizer(), one));
    };
  generator.generate_many(
      flags.batch.slots, config, [&] { return std::exchange(request, std::nullopt); },
      [&](std::int64_t, std::int64_t sample, const Continuation& one) {
        nlohmann::ordered_json line = {{"sample", sample},
                                       {"prediction", one.text},
                                       {"tokens", one.tokens},
                                       {"logprob", one.logprob},
                                       {"ended_by", one.ended_by}};
        if (top > 0)
          line["token_logprobs"] =
              drawn.contains(sample) ? drawn[sample] : nlohmann::ordered_json::array();
        lines[sample] = event_line(line);
      },
      show, top);
  for (const auto& [sample, line] : lines)
    if (!write_out(line)) break;
  end_if_interrupted();
}

// Throws ConfigError for flags that do not go together or change nothing.
void check_flags(const CLI::App& command, const GenerateFlags& flags) {
  const auto refuse_together = [](bool first, const char* a, bool second, const char* b) {
    if (first && second) throw ConfigError(a, std::string("cannot be given together with ") + b);
  };
  const bool batch = !flags.batch.input.empty(), several = flags.batch.samples > 1;
  refuse_together(!flags.prompt_file.empty(), "--prompt-file", flags.prompt.has_value(),
                  "--prompt");
  refuse_together(flags.interactive, "--interactive", flags.events, "--json-events");
  refuse_together(flags.interactive, "--interactive", !flags.save_state.empty(),
                  "--save-state; use /save");
  for (const auto& [is_given, name] :
       {std::pair{flags.prompt || !flags.prompt_file.empty(), "a prompt; requests have theirs"},
        std::pair{batch, "--input"}, std::pair{several, "--samples"},
        std::pair{flags.interactive, "--interactive"},
        std::pair{flags.events, "--json-events, which it implies"},
        std::pair{!flags.load_state.empty(), "--load-state"},
        std::pair{!flags.save_state.empty(), "--save-state; requests have state and keep"}})
    refuse_together(flags.serve, "--serve-stdin", is_given, name);
  refuse_together(batch, "--input", flags.prompt || !flags.prompt_file.empty(), "a prompt");
  for (const auto& [is_given, name] :
       {std::pair{!flags.load_state.empty(), "--load-state"},
        std::pair{!flags.save_state.empty(), "--save-state"},
        std::pair{flags.events, "--json-events"}, std::pair{flags.interactive, "--interactive"}}) {
    refuse_together(is_given, name, batch, "--input");
    refuse_together(is_given, name, several, "--samples");
  }
  for (const auto& [is_given, name] :
       {std::pair{batch, "has no effect with --input"},
        std::pair{several, "has no effect with --samples"},
        std::pair{flags.events, "has no effect with --json-events"},
        std::pair{flags.interactive, "has no effect with --interactive"},
        std::pair{flags.serve, "has no effect with --serve-stdin"}})
    if (is_given && flags.echo) throw ConfigError("--echo", name);
  if (batch && flags.batch.output.empty())
    throw ConfigError("--output",
                      "expected with --input: the file for the continuations, or - for standard "
                      "output");
  if (!batch && !flags.batch.output.empty())
    throw ConfigError("--output", "goes with --input; a single text goes to standard output");
  if (!batch) refuse_idle(command, {"--overwrite", "--prompt-field"}, "needs --input");
  if (!batch && !several && !flags.serve)
    refuse_idle(command, {"--batch"}, "needs --input, --samples or --serve-stdin");
  if (!flags.serve) refuse_idle(command, {"--keep-mib"}, "needs --serve-stdin");
  if (!flags.events && !flags.serve)
    refuse_idle(command, {"--prompt-logprobs"}, "needs --json-events or --serve-stdin");
  if (!flags.events && !batch && !several && !flags.serve)
    refuse_idle(command, {"--top-logprobs"},
                "needs --json-events, --input, --samples or --serve-stdin");
  if (flags.generator.prompt_cache.empty())
    refuse_idle(command, {"--prompt-cache-mib"}, "needs --prompt-cache");
  if (flags.batch.output == "-")
    refuse_idle(command, {"--overwrite"}, "needs an --output that is a file");
}

// Outputs are checked before any work.
void check_outputs(const GenerateFlags& flags) {
  const bool to_file = !flags.batch.output.empty() && flags.batch.output != "-";
  for (const auto& [option, path] :
       {std::pair{"--output", to_file ? flags.batch.output : std::filesystem::path()},
        std::pair{"--save-state", std::filesystem::path(flags.save_state)}}) {
    if (path.empty()) continue;
    check_output(option, path,
                 {{"--input", flags.input},
                  {"--prompt-file", flags.prompt_file},
                  {"--tokenizer", flags.generator.tokenizer}},
                 flags.model);
    refuse_adapter_file(option, path, flags.generator.adapters);
  }
}

void run_generate(const CLI::App& command, GenerateFlags& flags, const nlohmann::json& given) {
  const auto config = settings_from_flags<GenerateConfig>(given);
  refuse_idle_samplers(given, config);
  flags.batch.input = flags.input;
  check_flags(command, flags);
  check_adapter_flags(command, flags.generator.adapters);
  check_outputs(flags);
  const bool batch = !flags.input.empty();
  std::optional<Input> input;
  if (batch) {
    input.emplace(flags.input);
    flags.batch.input = input->path();
    flags.batch.input_name = input->name();
    if (flags.batch.output == "-") flags.batch.write_line = write_out;
  }
  flags.generator.prompt_cache_bytes = flags.cache_mib << 20;
  Generator generator(flags.model, flags.generator);
  check_generation(generator, config);
  if (batch) {
    generate_batch(generator, config, flags.batch);
    end_if_interrupted();  // the same command resumes
  } else if (flags.serve) {
    const InterruptGuard guard;
    serve(generator,
          {.settings = config,
           .top_logprobs = flags.batch.top_logprobs,
           .prompt_logprobs = flags.prompt_logprobs,
           .slots = flags.batch.slots,
           .keep_bytes = flags.keep_mib << 20,
           .write_line = write_out},
          STDIN_FILENO);
    end_if_interrupted();
  } else if (flags.interactive) {
    Session session(generator);
    if (!flags.load_state.empty()) {
      session.load(flags.load_state);
      write_out(session.release_held());
    }
    if (flags.prompt || !flags.prompt_file.empty())
      session.feed(read_prompt(flags, generator.tokenizer()));
    run_interactive(generator, std::move(session), config);
  } else if (flags.batch.samples > 1) {
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

  command->option_defaults()->group("Input");
  add_model_flags(*command, flags->model, flags->generator);
  command
      ->add_option_function<std::string>(
          "--prompt", [flags](const std::string& text) { flags->prompt = text; },
          "text to continue; else --prompt-file or standard input")
      ->type_name("TEXT");
  command
      ->add_option("--prompt-file", flags->prompt_file,
                   "file with the text to continue, - for standard input")
      ->type_name("FILE");
  command
      ->add_option("--input", flags->input,
                   "JSON lines with a prompt each: a file, a pipe, or - for standard input")
      ->type_name("FILE");
  command
      ->add_option("--prompt-field", flags->batch.prompt_field,
                   "with --input: name of the field with the prompt [prompt]")
      ->type_name("NAME");
  command->add_flag("--interactive", flags->interactive,
                    "a conversation on the terminal; /help there lists the commands");

  command->add_flag("--serve-stdin", flags->serve,
                    "stay: JSON lines with requests on standard input, events on standard output, "
                    "many at once; see docs/serve.md");

  command->option_defaults()->group("Sampling");
  add_setting_flags<GenerateConfig>(*command, *given);
  command
      ->add_option("--samples", flags->batch.samples,
                   "continuations per prompt; more than one are printed as JSON lines [1]")
      ->type_name("N")
      ->check(at_least(1));
  for (const auto* name :
       {"--max-new-tokens", "--stop", "--ban-text", "--prefix", "--ignore-end", "--ban-id"})
    command->get_option(name)->group("Length and stops");
  command->get_option("--ban-id")->type_name("ID");
  command->get_option("--bias")->type_name("ID=X");

  command->option_defaults()->group("Output");
  command
      ->add_option("--output", flags->batch.output,
                   "with --input: JSON lines with the continuations, resumed if the file exists; - "
                   "for standard output")
      ->type_name("FILE");
  command->add_flag("--overwrite", flags->batch.overwrite, "with --output: start over");
  command->add_flag("--echo", flags->echo, "print the prompt before its continuation");
  command->add_flag("--json-events", flags->events,
                    "print a JSON line per token: token, text, logprob, milliseconds");
  command
      ->add_option("--top-logprobs", flags->batch.top_logprobs,
                   "with --json-events, --input, --samples or --serve-stdin: the N most likely "
                   "tokens in the "
                   "place of each, with the natural logs of their probabilities")
      ->type_name("N")
      ->check(at_least(1));
  command->add_flag("--prompt-logprobs", flags->prompt_logprobs,
                    "with --json-events or --serve-stdin: an event per token of the prompt, too");
  command->add_flag("--quiet", flags->batch.quiet, "with --input: no progress");

  command->option_defaults()->group("State");
  command
      ->add_option("--load-state", flags->load_state,
                   "resume from a state that --save-state wrote, or begin with a tuned initial "
                   "state (.pth); the prompt may be empty")
      ->type_name("FILE");
  command
      ->add_option("--save-state", flags->save_state, "save the state after the text to this file")
      ->type_name("FILE");
  command
      ->add_option("--prompt-cache", flags->generator.prompt_cache,
                   "directory that caches the states of prompt prefixes")
      ->type_name("DIR");
  command
      ->add_option("--prompt-cache-mib", flags->cache_mib,
                   "maximum size of that directory in MiB [1024]")
      ->type_name("N")
      ->check(at_least(1));

  command
      ->add_option("--keep-mib", flags->keep_mib,
                   "with --serve-stdin: maximum size of the states kept in memory in MiB [1024]")
      ->type_name("N")
      ->check(at_least(1));

  command->option_defaults()->group("Machine");
  command->add_option("--batch", flags->batch.slots, "sequences decoded together [16]")
      ->type_name("N")
      ->check(at_least(1));
  add_machine_flags(*command, flags->generator, "auto (the CPU), cpu or cuda:N [auto]");
  command->footer(
      "Example:\n"
      "  rwkvx generate --model runs/mine --prompt \"To be\" --max-new-tokens 100 \\\n"
      "    --temperature 0.8 --top-p 0.9 --stop \"THE END\" --seed 1");
  command->callback([command, flags, given] {
    flags->generator.device = device_for_generating(flags->generator.device);
    hand_over_for_device(flags->generator.device, "--device");
    run_generate(*command, *flags, *given);
  });
}

}  // namespace rwkvx
