// Reading files whole or mapped, and content hashes. base/output_file.h has the writing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "rwkvx/base/descriptor.h"

namespace rwkvx {

// The whole file as bytes. Throws FileError naming the file if it cannot be read.
std::string read_file(const std::filesystem::path& path);

// A file mapped for reading; an empty file maps to an empty span. Throws FileError. Where somebody
// cuts the file meanwhile, what is gone reads as zeros and check() throws.
class MappedFile {
 public:
  struct Node;
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  // Tells the kernel that the bytes [first, first + count) will not be read again soon, so that
  // one pass over a large file does not keep all of it resident.
  void drop(std::uint64_t first, std::uint64_t count) const;
  // Throws FileError where the file is shorter than when it was opened: what was read since may be
  // zeros in place of its bytes.
  void check() const;

 private:
  bool is_shorter() const;
  std::filesystem::path path_;
  Descriptor file_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  Node* node_ = nullptr;  // what the handler of SIGBUS knows of it
};

// Throws FileError where a file that was mapped by this process became shorter while it was read:
// at once where its missing pages were touched, else after it was closed. Cheap; called between
// pieces of long work, and at the end of every command.
void check_mapped_files();

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
