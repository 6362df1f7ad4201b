// Continuations generated earlier, so that an interrupted evaluation resumes where it stopped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "rwkvx/base/output_file.h"

namespace rwkvx {

// The continuations of one model under one sampler: a file of JSON lines in a directory,
// named by the hash of `identity`, which must name everything that a continuation depends on
// besides its prompt and its random stream. Each is written as soon as it is added; a line that was
// cut off when the program ended is dropped. One process owns the cache at a time. If it cannot be
// written, one warning says so and nothing more is kept.
class ContinuationCache {
 public:
  // Creates the directory if necessary. Throws FileError where another process has the cache,
  // DataError where the file is not a cache.
  ContinuationCache(const std::filesystem::path& directory, std::string_view identity);
  std::optional<std::string> find(std::string_view prompt, std::uint64_t sequence) const;
  void add(std::string_view prompt, std::uint64_t sequence, const std::string& text);
  std::size_t size() const { return texts_.size(); }

 private:
  std::filesystem::path path_;
  std::unordered_map<std::string, std::string> texts_;
  std::optional<AppendFile> file_;  // none if it cannot be written
};

}  // namespace rwkvx
