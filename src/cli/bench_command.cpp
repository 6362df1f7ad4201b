#include <CLI/CLI.hpp>

#include "cli/bench.h"
#include "cli/commands.h"
#include "cli/torch_part.h"

namespace rwkvx {

void add_bench_command(CLI::App& app, const TorchPart* torch) {
  auto* command = app.add_subcommand("bench", "Measure speed and memory on this machine");
  command->require_subcommand(1);
  add_torch_command(*command, "train", kBenchTrainDescription,
                    torch == nullptr ? nullptr : torch->add_bench_train);
  add_bench_decode(*command);
}

}  // namespace rwkvx
