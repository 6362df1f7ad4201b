// The program: one subcommand per `<name>_command.cpp`, and the one place that catches.
#pragma once

namespace rwkvx {

// Runs the command line and returns the exit status.
int run_program(int argc, char** argv);

}  // namespace rwkvx
