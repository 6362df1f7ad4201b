// The rules for files that a command writes: whole or not there, never an input, one writer of a
// growing file at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "rwkvx/base/descriptor.h"
#include "rwkvx/base/lock.h"

namespace rwkvx {

// A file being written under a temporary name beside its final one. commit() flushes it to the disk
// and renames it, so that a reader sees the old content or all of the new, and of several writers
// at once the last one to commit wins whole. Without commit() the destructor removes the temporary;
// what a killed process left is removed by the next writer of the same name. A symbolic link keeps
// pointing where it did, and its target is replaced; the replaced file's permissions stay. What is
// not a regular file (a pipe, /dev/stdout) is written straight. Every failure throws FileError.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::string_view bytes);
  // Buffered bytes are flushed first. Throws FileError where the file is written straight.
  void write_at(std::uint64_t offset, std::string_view bytes);
  std::uint64_t size() const { return size_; }
  void commit();

 private:
  void flush();
  [[noreturn]] void fail(const std::string& what) const;
  std::filesystem::path path_;       // as it was named
  std::filesystem::path target_;     // where its links lead
  std::filesystem::path temporary_;  // empty where the file is written straight
  Descriptor file_;
  std::uint64_t size_ = 0;
  std::string buffer_;
};

// Writes a whole file atomically.
void write_file(const std::filesystem::path& path, std::string_view bytes);

// Removes the temporary files of killed AtomicFile writers from a directory: all of them, or those
// of the file `name`. What cannot be removed stays.
void remove_leftovers(const std::filesystem::path& directory, std::string_view name = {});

// A file of lines that only grows, and holds whole lines whatever happens. It belongs to one
// process at a time (FileLock). Opening it changes nothing: the owner first looks at what it holds,
// then says cut() or clear(). A line for which the disk had no room is taken back. A pipe or device
// takes lines and holds none. Every failure throws FileError.
class AppendFile {
 public:
  explicit AppendFile(std::filesystem::path path);
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;
  // Bytes of whole lines.
  std::int64_t size() const { return size_; }
  // Bytes of an unfinished last line behind them.
  std::int64_t unfinished() const { return unfinished_; }
  // Drops the unfinished last line, which an interrupted run left.
  void cut();
  // Drops all lines.
  void clear();
  // `line` ends with a line break. Throws std::logic_error while there is an unfinished line.
  void append(std::string_view line);

 private:
  void open(int flags);
  [[noreturn]] void fail(int error) const;
  std::filesystem::path path_;
  std::optional<FileLock> lock_;
  Descriptor file_;  // none while there is no such file
  bool regular_ = true;
  std::int64_t size_ = 0, unfinished_ = 0;
};

// Whether two names lead to one existing file or directory, by whatever links and spellings.
bool same_file(const std::filesystem::path& a, const std::filesystem::path& b);

// Throws ConfigError where the output named by option `output_option` is one of the inputs, each
// given as (option, path). Empty paths, and what is not a regular file, are never the same.
void refuse_same_file(const std::string& output_option, const std::filesystem::path& output,
                      std::initializer_list<std::pair<std::string, std::filesystem::path>> inputs);

// Throws FileError where a file of this name could not be written, without making or changing it:
// its directory is missing or not writable, or it is a directory. For outputs that are written
// after long work.
void check_writable(const std::filesystem::path& path);

// Makes the names in a directory permanent (fsync of the directory). Throws FileError.
void sync_directory(const std::filesystem::path& directory);

}  // namespace rwkvx
