#include <CLI/CLI.hpp>
#include <filesystem>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/model_flags.h"
#include "cli/output.h"
#include "rwkvx/adapters/apply.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/checkpoint/model_source.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/study/inspect.h"

namespace rwkvx {
namespace {

struct InspectFlags {
  AdapterChoice adapters;
  std::string model, tokenizer, prompt, text, output;
  std::int64_t bytes = 4096;
  bool json = false;
};

void run_inspect(const CLI::App& command, const InspectFlags& flags) {
  check_adapter_flags(command, flags.adapters);
  if (flags.prompt.empty() == flags.text.empty())
    throw ConfigError("inspect", "expected either --prompt or --text");
  if (!flags.json && flags.output.empty())
    throw ConfigError("--output", "expected a file name for the HTML page, or --json");
  auto text = flags.prompt.empty() ? read_file(flags.text) : flags.prompt;
  if (static_cast<std::int64_t>(text.size()) > flags.bytes)
    text.resize(static_cast<std::size_t>(flags.bytes));
  const auto source = merged_model(open_model(flags.model), flags.adapters);
  const auto tokenizer = open_tokenizer(source, flags.tokenizer);
  auto model = load_model(source);
  const auto inspection = inspect_model(*model, *tokenizer, text);
  if (!flags.output.empty())
    write_file(flags.output, inspection_page(inspection, "Inside " + flags.model));
  if (flags.json) print(inspection.dump() + "\n");
  finish_output();
}

}  // namespace

void add_inspect_command(CLI::App& app) {
  auto* command = app.add_subcommand("inspect", kInspectDescription);
  auto flags = std::make_shared<InspectFlags>();
  add_model_flags(*command, flags->model, flags->tokenizer);
  add_adapter_flags(*command, flags->adapters);
  command->add_option("--prompt", flags->prompt, "the text to look at")->type_name("TEXT");
  command->add_option("--text", flags->text, "a file with the text to look at")->type_name("FILE");
  command->add_option("--bytes", flags->bytes, "look at this many bytes of it at most [4096]")
      ->type_name("N")
      ->check(at_least(1));
  command->add_option("--output", flags->output, "HTML page to write")->type_name("FILE");
  command->add_flag("--json", flags->json, "print the numbers as a JSON object");
  command->callback([command, flags] { run_inspect(*command, *flags); });
}

}  // namespace rwkvx
