// Named tensors from whatever file they come in.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/formats/safetensors.h"

namespace rwkvx {

// Tensors and the mapping they live in; cheap to copy.
class TensorFile {
 public:
  TensorFile(std::filesystem::path path, std::vector<TensorView> tensors,
             std::map<std::string, std::string> metadata, std::shared_ptr<const void> owner);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<TensorView>& tensors() const { return tensors_; }
  // Null where there is none of this name.
  const TensorView* find(std::string_view name) const;
  // Throws CheckpointError where there is none of this name.
  const TensorView& at(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  std::filesystem::path path_;
  std::vector<TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
  std::shared_ptr<const void> owner_;
};

// Opens a safetensors or .pth file, told apart by content. Throws CheckpointError for what is
// neither, FileError where it cannot be opened.
TensorFile open_tensor_file(const std::filesystem::path& path);

}  // namespace rwkvx
