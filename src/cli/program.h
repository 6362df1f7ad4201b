// The program: one subcommand per `<name>_command.cpp`, and the one place that catches.
#pragma once

namespace rwkvx {

struct TorchPart;

// Runs the command line and returns the exit status. `torch`: cli/torch_part.h; null: commands that
// need it are handed over.
int run_program(int argc, char** argv, const TorchPart* torch = nullptr);

// The command line in progress.
struct RunningProgram {
  int argc = 0;
  char** argv = nullptr;
  const TorchPart* torch = nullptr;
};
const RunningProgram& running_program();

}  // namespace rwkvx
