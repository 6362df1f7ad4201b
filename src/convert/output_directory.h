// A directory that is written whole or not at all.
#pragma once

#include <filesystem>

namespace rwkvx {

// Files are written into path(), beside the final directory; commit() makes them permanent and
// renames it. Without commit() the destructor removes what was written. Every failure throws
// FileError.
class OutputDirectory {
 public:
  // Where the directory exists, it must be that of a model of the transformers library, and
  // `overwrite` must be on; it is replaced by commit().
  OutputDirectory(std::filesystem::path final_path, bool overwrite);
  ~OutputDirectory();
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;
  const std::filesystem::path& path() const { return temporary_; }
  void commit();

 private:
  std::filesystem::path final_, temporary_;
};

}  // namespace rwkvx
