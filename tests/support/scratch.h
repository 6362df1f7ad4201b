// A folder for one test, and the folder with sample texts.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace rwkvx {

// Made empty, removed with all it holds.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    static std::atomic<int> count{0};
    path_ = std::filesystem::temp_directory_path() /
            ("rwkvx-test-" + std::to_string(::getpid()) + "-" + std::to_string(count++));
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// A file of the sample texts, in RWKVX_DATA_DIR or else beside the project.
inline std::filesystem::path sample_data(const std::string& name) {
  const char* folder = std::getenv("RWKVX_DATA_DIR");
  return std::filesystem::path(folder != nullptr ? folder : RWKVX_SOURCE_DIR "/../shared/data") /
         name;
}

}  // namespace rwkvx
