// Files that are either whole or not there: atomic writing, mapped reading, content hashes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace rwkvx {

// The whole file as bytes. Throws FileError naming the file if it cannot be read.
std::string read_file(const std::filesystem::path& path);

// A file being written under a temporary name beside its final one. commit() flushes it to the disk
// and renames it, so that a reader sees the old content or all of the new. Without commit() the
// destructor removes the temporary. Every failure throws FileError.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::string_view bytes);
  void write_at(std::uint64_t offset, std::string_view bytes);  // buffered bytes are flushed first
  std::uint64_t size() const { return size_; }
  void commit();

 private:
  void flush();
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  std::string buffer_;
};

// A file of lines that only grows, and holds whole lines whatever happens: what an interrupted run
// left of a last line is cut off, and so is a line for which the disk had no room. Every failure
// throws FileError.
class AppendFile {
 public:
  // Opens the file, or makes it; what it holds stays unless `empty`.
  AppendFile(std::filesystem::path path, bool empty);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;
  // `line` ends with a line break.
  void append(std::string_view line);
  std::int64_t size() const { return size_; }

 private:
  [[noreturn]] void fail(int error) const;
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::int64_t size_ = 0;
};

// Writes a whole file atomically.
void write_file(const std::filesystem::path& path, std::string_view bytes);

// Makes the names in a directory permanent (fsync of the directory). Throws FileError.
void sync_directory(const std::filesystem::path& directory);

// A file mapped for reading; an empty file maps to an empty span. Throws FileError.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  // Tells the kernel that the bytes [first, first + count) will not be read again soon, so that
  // one pass over a large file does not keep all of it resident.
  void drop(std::uint64_t first, std::uint64_t count) const;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// A new folder among the temporary files, removed with all it holds when the object goes. Throws
// FileError.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// XXH3-128 of bytes as 32 lower-case hex digits; `xxhsum -H2 FILE` prints the same for a file.
std::string hash_bytes(std::string_view bytes);
std::string hash_file(const std::filesystem::path& path);

// XXH3-128 of several pieces one after the other.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  void add(std::string_view bytes);
  std::string hex() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rwkvx
