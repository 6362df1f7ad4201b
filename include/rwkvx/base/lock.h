// One owner at a time for what several processes could write.
#pragma once

#include <filesystem>
#include <vector>

#include "rwkvx/base/descriptor.h"

namespace rwkvx {

// The ownership of a directory or a file. It is held by an advisory lock (flock) on a small file
// that names the owner: `.lock` in a directory, `NAME.lock` beside a file. The kernel gives it up
// when the owner ends, however it ends, so that what a dead process owned is taken over; the small
// file goes when the lock is given up. Where the file system has no locks, taking one succeeds.
class FileLock {
 public:
  // Throws FileError where another process is the owner, naming its id, host, command and start,
  // or where the small file cannot be made.
  static FileLock of_directory(const std::filesystem::path& directory);
  static FileLock of_file(const std::filesystem::path& file);
  // The same, but waits, with a message, until the owner has ended. Throws Interrupted where a
  // signal comes meanwhile.
  static FileLock wait_for_directory(const std::filesystem::path& directory);
  ~FileLock();
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;

 private:
  FileLock(const std::filesystem::path& owned, std::filesystem::path lock_file, bool wait = false);
  std::filesystem::path lock_file_;
  Descriptor file_;
};

// Whether a process owns the directory. False where the file system has no locks.
bool directory_in_use(const std::filesystem::path& directory);

// Makes a directory and those that it lies in. What was missing goes again with the object unless
// it was put to use, so that a command that is refused later leaves no empty directories.
class MadeDirectories {
 public:
  // Throws FileError.
  explicit MadeDirectories(const std::filesystem::path& directory);
  ~MadeDirectories();
  MadeDirectories(const MadeDirectories&) = delete;
  MadeDirectories& operator=(const MadeDirectories&) = delete;

 private:
  void remove_empty() const;
  std::vector<std::filesystem::path> made_;  // from the outermost on
};

// flock(2), not interrupted by signals. Returns what it returns and sets errno.
int lock_descriptor(int descriptor, int operation);

// The path itself, or what the symbolic links at its end lead to, which need not exist.
std::filesystem::path link_target(std::filesystem::path path);

}  // namespace rwkvx
