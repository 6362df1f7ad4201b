// Runs the program and keeps what it says.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "support/scratch.h"

namespace rwkvx {

// A program without LibTorch, for the commands that need none; null: the same one for all
// (tests/scripts/inference_test.sh).
inline const char* inference_program() { return std::getenv("RWKVX_INFERENCE_PROGRAM"); }

// The program that runs a command.
inline std::string program_of(const std::string& command) {
  const char* given = inference_program();
  for (const char* one : {"train", "study", "inspect", "plan", "bench"})
    if (given == nullptr || command == one) return RWKVX_PROGRAM;
  return given;
}

struct ProgramResult {
  int status = -1;  // exit status, or 128 + the signal that ended it
  std::string out, err;
};

// `rwkvx args…` with `input` on standard input, in `directory` where one is given. Input and output
// go through files, so no amount of either can block.
class Program {
 public:
  explicit Program(const std::vector<std::string>& args, const std::string& input = "",
                   const std::string& directory = "") {
    const std::string in = scratch_ / "in", out = scratch_ / "out", err = scratch_ / "err";
    std::ofstream(in, std::ios::binary) << input;
    std::vector<char*> argv;
    std::string name = program_of(args.empty() ? "" : args.front());
    argv.push_back(name.data());
    for (const auto& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
    argv.push_back(nullptr);
    child_ = ::fork();
    if (child_ != 0) return;
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
  pid_t id() const { return child_; }
  void signal(int number) const { ::kill(child_, number); }
  // What it has written to standard output so far.
  std::string output() const { return read("out"); }
  // Waits for its end.
  ProgramResult result() const {
    int status = 0;
    ::waitpid(child_, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read("out"),
            read("err")};
  }

 private:
  std::string read(const char* name) const {
    std::ifstream file(scratch_ / name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  ScratchDirectory scratch_;
  pid_t child_ = 0;
};

inline ProgramResult run_program(const std::vector<std::string>& args,
                                 const std::string& input = "", const std::string& directory = "") {
  return Program(args, input, directory).result();
}

// Ended with `status`, nothing on standard output and one line of error that holds `text`.
inline void expect_refused(const ProgramResult& result, int status, const std::string& text) {
  EXPECT_EQ(result.status, status) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, testing::StartsWith("rwkvx: error: "));
  EXPECT_THAT(result.err, testing::HasSubstr(text));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

}  // namespace rwkvx
