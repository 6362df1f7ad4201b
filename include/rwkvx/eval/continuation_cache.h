// Continuations that were generated before, so that a broken-off evaluation goes on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "rwkvx/base/output_file.h"

namespace rwkvx {

// The continuations of one model under one sampler: a file of JSON lines in a folder, named by the
// hash of `identity`, which must name everything that a continuation depends on beside its prompt
// and its random stream. Each is on the disk's way as soon as it is added; a line that was cut off
// when the program ended is dropped. It belongs to one process at a time. Where it cannot be
// written, a warning says so once, and nothing more is kept.
class ContinuationCache {
 public:
  // Makes the folder where there is none. Throws FileError where another process has the cache,
  // DataError where the file is not a cache.
  ContinuationCache(const std::filesystem::path& folder, std::string_view identity);
  std::optional<std::string> find(std::string_view prompt, std::uint64_t sequence) const;
  void add(std::string_view prompt, std::uint64_t sequence, const std::string& text);
  std::size_t size() const { return texts_.size(); }

 private:
  std::filesystem::path path_;
  std::unordered_map<std::string, std::string> texts_;
  std::optional<AppendFile> file_;  // none where it cannot be written
};

}  // namespace rwkvx
