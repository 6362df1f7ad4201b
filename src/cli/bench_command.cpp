#include <CLI/CLI.hpp>

#include "cli/bench.h"
#include "cli/commands.h"

namespace rwkvx {

void add_bench_command(CLI::App& app) {
  auto* command = app.add_subcommand("bench", "Measure speed and memory on this machine");
  command->require_subcommand(1);
  add_bench_train(*command);
  add_bench_decode(*command);
}

}  // namespace rwkvx
