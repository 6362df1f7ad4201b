// Runs the program and keeps what it says.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "support/scratch.h"

namespace rwkvx {

struct ProgramResult {
  int status = -1;  // exit status, or 128 + the signal that ended it
  std::string out, err;
};

// Runs `rwkvx args…` with `input` on standard input, in `directory` where one is given. Input and
// output go through files, so no amount of either can block.
inline ProgramResult run_program(const std::vector<std::string>& args,
                                 const std::string& input = "", const std::string& directory = "") {
  const ScratchDirectory scratch;
  const std::string in = scratch / "in", out = scratch / "out", err = scratch / "err";
  std::ofstream(in, std::ios::binary) << input;
  std::vector<char*> argv;
  std::string name = RWKVX_PROGRAM;
  argv.push_back(name.data());
  for (const auto& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto redirect = [](const std::string& path, int flags, int descriptor) {
      if (::dup2(::open(path.c_str(), flags, 0600), descriptor) < 0) ::_exit(126);
    };
    redirect(in, O_RDONLY, STDIN_FILENO);
    redirect(out, O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
    redirect(err, O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
    if (!directory.empty() && ::chdir(directory.c_str()) != 0) ::_exit(126);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  const auto read = [](const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  ProgramResult result{WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read(out),
                       read(err)};
  return result;
}

}  // namespace rwkvx
