// One owner at a time for what several processes could write.
#pragma once

#include <filesystem>

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
  ~FileLock();
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;

 private:
  FileLock(const std::filesystem::path& owned, std::filesystem::path lock_file);
  std::filesystem::path lock_file_;
  int descriptor_ = -1;
};

// The path itself, or what the symbolic links at its end lead to, which need not exist.
std::filesystem::path link_target(std::filesystem::path path);

}  // namespace rwkvx
