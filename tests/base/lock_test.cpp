#include "rwkvx/base/lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <optional>
#include <thread>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/output_file.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using testing::HasSubstr;

std::string refusal(const std::filesystem::path& directory) {
  try {
    FileLock::of_directory(directory);
  } catch (const FileError& error) {
    return error.what();
  }
  return "";
}

// A process that owns a directory until it is killed.
class Owner {
 public:
  explicit Owner(const std::filesystem::path& directory) {
    int ready[2];
    if (::pipe(ready) != 0) throw std::runtime_error("pipe");
    child_ = ::fork();
    if (child_ == 0) {
      const auto lock = FileLock::of_directory(directory);
      if (::write(ready[1], "x", 1) == 1)
        for (;;) ::pause();
    }
    char byte;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
    ::close(ready[0]);
    ::close(ready[1]);
  }
  ~Owner() { kill(); }
  void kill() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = 0;
  }
  pid_t id() const { return child_; }

 private:
  pid_t child_;
};

TEST(FileLock, NamesTheOwnerToTheSecond) {
  const ScratchDirectory scratch;
  Owner owner(scratch.path());
  char host[256] = "";
  ::gethostname(host, sizeof host);
  const auto message = refusal(scratch.path());
  EXPECT_THAT(message, HasSubstr(scratch.path().string() + ": is in use by process " +
                                 std::to_string(owner.id()) + " on " + host + " since 20"));
  EXPECT_THAT(message, HasSubstr("base_tests"));
}

TEST(FileLock, OfADeadProcessIsTakenOver) {
  const ScratchDirectory scratch;
  Owner owner(scratch.path());
  EXPECT_NE(refusal(scratch.path()), "");
  owner.kill();
  EXPECT_TRUE(std::filesystem::exists(scratch / ".lock"));
  EXPECT_EQ(refusal(scratch.path()), "");
  EXPECT_FALSE(std::filesystem::exists(scratch / ".lock"));
}

TEST(FileLock, IsFreeAgainWhenItGoes) {
  const ScratchDirectory scratch;
  std::optional<FileLock> lock(FileLock::of_directory(scratch.path()));
  EXPECT_NE(refusal(scratch.path()), "");
  FileLock moved(std::move(*lock));
  lock.reset();
  EXPECT_NE(refusal(scratch.path()), "");
  moved = FileLock::of_file(scratch / "another");
  EXPECT_TRUE(std::filesystem::exists(scratch / "another.lock"));
}

TEST(FileLock, ShowsNoMoreThanALineOfWhatALockFileHolds) {
  const ScratchDirectory scratch;
  Owner owner(scratch.path());
  // Anybody could have written there.
  FILE* file = std::fopen((scratch / ".lock").c_str(), "r+");
  std::fputs(("\033[31mred" + std::string(300, 'x') + "\nmore\n").c_str(), file);
  std::fclose(file);
  const auto message = refusal(scratch.path());
  EXPECT_THAT(message, HasSubstr("?[31mred"));
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

TEST(FileLock, SaysWhereItCannotBeMade) {
  const ScratchDirectory scratch;
  EXPECT_THAT(refusal(scratch / "none"), HasSubstr("No such file or directory"));
}

TEST(FileLock, WaitsForTheOwnerWhereThatIsWanted) {
  const ScratchDirectory scratch;
  Owner owner(scratch.path());
  std::thread end([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    owner.kill();
  });
  const auto lock = FileLock::wait_for_directory(scratch.path());
  end.join();
  EXPECT_NE(refusal(scratch.path()), "");
}

TEST(FileLock, WaitingEndsWithASignal) {
  const ScratchDirectory scratch;
  Owner owner(scratch.path());
  const InterruptGuard guard;
  interrupt_by(SIGTERM);
  EXPECT_THROW(FileLock::wait_for_directory(scratch.path()), Interrupted);
  clear_interrupt();
}

TEST(MadeDirectories, GoAgainUnlessTheyWerePutToUse) {
  const ScratchDirectory scratch;
  std::filesystem::create_directory(scratch / "there");
  {
    const MadeDirectories made(scratch / "there/a/b/");
    EXPECT_TRUE(std::filesystem::is_directory(scratch / "there/a/b"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(scratch / "there"));
  {
    const MadeDirectories made(scratch / "there/a/b");
    write_file(scratch / "there/a/file", "");
  }
  EXPECT_TRUE(std::filesystem::exists(scratch / "there/a/file"));
  EXPECT_FALSE(std::filesystem::exists(scratch / "there/a/b"));
}

TEST(MadeDirectories, SayWhyTheyCannotBeMade) {
  const ScratchDirectory scratch;
  write_file(scratch / "file", "");
  for (const char* name : {"file", "file/a", "file/a/b"})
    EXPECT_THROW(MadeDirectories(scratch / name), FileError) << name;
  EXPECT_EQ(read_file(scratch / "file"), "");
}

}  // namespace
}  // namespace rwkvx
