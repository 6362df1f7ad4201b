// The program: one subcommand per `<name>_command.cpp`, and the one place that catches.
#include <c10/util/Exception.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/version.h"

namespace rwkvx {
namespace {

int fail(const std::string& message, int status) {
  clear_progress_line();
  std::fprintf(stderr, "rwkvx: error: %s\n", message.c_str());
  return status;
}

int run(int argc, char** argv) {
  CLI::App app{"Trains, runs and evaluates RWKV language models", "rwkvx"};
  app.set_version_flag("--version", "rwkvx " + version() + " (" + build_id() + ")");
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  add_commands(app);
  try {
    parse_arguments(app, argc, argv);
    return 0;
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::CallForAllHelp& help) {
    return app.exit(help);
  } catch (const CLI::CallForVersion& asked) {
    return app.exit(asked);
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
