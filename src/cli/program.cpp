#include "cli/program.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <sstream>
#include <string>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/output.h"
#include "cli/torch_part.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/version.h"
#include "rwkvx/kernels/simd.h"

namespace rwkvx {
namespace {

int fail(const std::string& message, int status) {
  clear_progress_line();
  std::fprintf(stderr, "rwkvx: error: %s\n", message.c_str());
  return status;
}

RunningProgram running;

}  // namespace

const RunningProgram& running_program() { return running; }

int run_program(int argc, char** argv, const TorchPart* torch) {
  running = {argc, argv, torch};
  // A write to a closed pipe is an error of that write: messages that nobody reads stop nothing.
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app{"Train, run and evaluate RWKV language models", "rwkvx"};
  app.set_version_flag("--version",
                       "rwkvx " + version() + " (" + build_id() + "; " + build_libraries() + ")");
  app.require_subcommand(1);
  app.formatter(std::make_shared<HelpFormatter>());
  add_commands(app, torch);
  if (torch != nullptr) open_on_device = torch->open_on_device;
  try {
    choose_simd();
    try {
      if (argc <= 1) throw CLI::CallForHelp();
      if (const auto command = command_to_hand_over(app, argc, argv); !command.empty())
        hand_over(argc, argv, command);
      parse_arguments(app, argc, argv);
    } catch (const CLI::Success& asked) {  // for help or the version
      std::ostringstream text;
      app.exit(asked, text, text);
      print(text.str());
    }
    check_mapped_files();
    finish_output();  // whatever a command printed has gone out, or this says that it has not
    return 0;
  } catch (const Interrupted& interruption) {
    fail(interruption.what(), 0);
    end_if_interrupted();
    return interruption.exit_status();
  } catch (const Error& error) {
    return fail(error.what(), error.exit_status());
  } catch (const std::bad_alloc&) {
    return fail("not enough memory", 1);
  } catch (const std::exception& error) {
    const std::string text = torch != nullptr ? torch->explain(error) : error.what();
    return fail(text.substr(0, text.find('\n')), 1);
  }
}

}  // namespace rwkvx
