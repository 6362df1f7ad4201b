#include "cli/torch_part.h"

#include <dlfcn.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

#include "cli/program.h"
#include "rwkvx/base/device_name.h"
#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

constexpr char kLibrary[] = "librwkvx_torch.so";

// Beside the program as it is built or installed: BIN/../lib/LIBRARY, or the platform's name of
// lib.
fs::path find_library() {
  std::error_code error;
  const auto folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const char* place : {"../lib", "../lib64", RWKVX_LIBDIR, "."}) {
    const auto path = folder / place / kLibrary;
    if (!error && fs::exists(path, error)) return path;
  }
  return {};
}

std::vector<const CLI::App*>& added_by_name() {
  static std::vector<const CLI::App*> commands;
  return commands;
}

}  // namespace

void add_torch_command(CLI::App& parent, const char* name, const char* description,
                       void (*add)(CLI::App& parent)) {
  if (add != nullptr) return add(parent);
  added_by_name().push_back(parent.add_subcommand(name, description));
}

std::string command_to_hand_over(const CLI::App& app, int argc, char** argv) {
  const auto& by_name = added_by_name();
  std::string path;
  const auto* command = &app;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const auto named =
        command->get_subcommands([&](const CLI::App* one) { return one->get_name() == word; });
    if (named.empty()) return "";
    command = named.front();
    path += (path.empty() ? "" : " ") + command->get_name();
    if (std::ranges::find(by_name, command) != by_name.end()) return path;
  }
  return "";
}

void hand_over(int argc, char** argv, const std::string& what) {
  const auto path = find_library();
  if (path.empty())
    throw ConfigError(what, std::string("needs ") + kLibrary +
                                ", which this installation lacks; install the whole of rwkvx");
  // LibTorch's OpenMP reads this when it is loaded. Threads that wait asleep instead of spinning
  // cost an idle machine a few percent, and spare a busy one from being held up.
  if (std::getenv("GOMP_SPINCOUNT") == nullptr) ::setenv("OMP_WAIT_POLICY", "passive", 0);
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = ::dlerror();
    throw ConfigError(what, "needs " + path.string() +
                                ", which cannot be loaded: " + (reason == nullptr ? "" : reason));
  }
  const auto run = reinterpret_cast<int (*)(int, char**)>(::dlsym(library, "rwkvx_torch_program"));
  if (run == nullptr) throw ConfigError(what, path.string() + " is no library of this program");
  std::exit(run(argc, argv));
}

void hand_over_for_device(const std::string& device, const std::string& where) {
  const auto& program = running_program();
  if (program.torch != nullptr) return;
  const auto name = parse_device_name(device, where);
  if (name.is_cpu() || (name.is_auto() && (visible_gpus() == 0 || find_library().empty()))) return;
  hand_over(program.argc, program.argv, where + " " + device);
}

}  // namespace rwkvx
