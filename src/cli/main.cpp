// The program: one subcommand per `<name>_command.cpp`, and the one place that catches.
#include <c10/util/Exception.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "cli/commands.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/nearest.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/version.h"

namespace rwkvx {
namespace {

int fail(const std::string& message, int status) {
  clear_progress_line();
  std::fprintf(stderr, "rwkvx: error: %s\n", message.c_str());
  return status;
}

// The subcommand the words were meant for, or the program itself.
const CLI::App* parsed_command(const CLI::App& app) {
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  return command;
}

// A wrong flag, with the nearest valid one of the same command.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error) {
  std::string message = error.what();
  const CLI::App* command = parsed_command(app);
  const auto extras = app.remaining(/*recurse=*/true);
  std::vector<std::string> valid;
  for (const auto* option : command->get_options())
    for (const auto& name : option->get_lnames()) valid.push_back("--" + name);
  for (const auto* sub : command->get_subcommands([](const CLI::App*) { return true; }))
    valid.push_back(sub->get_name());
  if (!extras.empty()) {  // whatever else is missing, this word is the likelier slip
    const std::string word = extras.front().substr(0, extras.front().find('='));
    message = "unknown " + std::string(word.starts_with("-") ? "flag " : "word ") + word +
              did_you_mean(word, valid);
  }
  return message + " (see rwkvx " + (command == &app ? "" : command->get_name() + " ") + "--help)";
}

int run(int argc, char** argv) {
  CLI::App app{"Trains, runs and evaluates RWKV language models", "rwkvx"};
  app.set_version_flag("--version",
                       "rwkvx " + version() + " (" + build_id() + "; " + build_libraries() + ")");
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  add_commands(app);
  try {
    app.parse(argc, argv);
    check_mapped_files();
    return 0;
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::CallForAllHelp& help) {
    return app.exit(help);
  } catch (const CLI::CallForVersion& asked) {
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    return fail(usage_message(app, error), 2);
  } catch (const Interrupted& interruption) {
    fail(interruption.what(), 0);
    end_if_interrupted();
    return interruption.exit_status();
  } catch (const Error& error) {
    return fail(error.what(), error.exit_status());
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    return fail(text.substr(0, text.find('\n')), 1);
  } catch (const std::bad_alloc&) {
    return fail("not enough memory", 1);
  } catch (const std::exception& error) {
    const std::string text = error.what();
    return fail(text.substr(0, text.find('\n')), 1);
  }
}

}  // namespace
}  // namespace rwkvx

int main(int argc, char** argv) { return rwkvx::run(argc, argv); }
