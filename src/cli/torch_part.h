// What the program lacks that is built without LibTorch, and how it comes to it.
//
// The program `rwkvx` holds what needs no tensors. The library librwkvx_torch.so holds the whole
// program once more, with the commands that train and look inside models and with models on a GPU.
// A command line that asks for one of these is handed over to the library's program as it is,
// before any file is read.
#pragma once

#include <exception>
#include <string>

#include "rwkvx/generate/language_model.h"

namespace CLI {
class App;
}

namespace rwkvx {

struct TorchPart {
  void (*add_train)(CLI::App& app);
  void (*add_plan)(CLI::App& app);
  void (*add_inspect)(CLI::App& app);
  void (*add_study)(CLI::App& app);
  void (*add_bench_train)(CLI::App& bench);
  OpenOnDevice open_on_device;
  // What to say of an exception that is none of rwkvx's own.
  std::string (*explain)(const std::exception& error);
};

// Adds a command of TorchPart: by `add`, or, where that is null, its name and description alone.
void add_torch_command(CLI::App& parent, const char* name, const char* description,
                       void (*add)(CLI::App& parent));
// The command that the first words of a command line name, "bench train", where it is one that was
// added by its name alone; else "".
std::string command_to_hand_over(const CLI::App& app, int argc, char** argv);
// Runs the command line in the library's program and ends the process with its status. Throws
// ConfigError for `what` where this installation has no such library.
[[noreturn]] void hand_over(int argc, char** argv, const std::string& what);
// The same, for the command line in progress, where a setting names a GPU, or is "auto" and there
// is one; returns where the CPU is meant or this is the library's program.
void hand_over_for_device(const std::string& device, const std::string& where);

}  // namespace rwkvx
