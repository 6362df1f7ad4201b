// State dicts in PyTorch's .pth files (the zip form that torch.save has written since 1.6), read
// without PyTorch and without running anything that the file asks for.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/base/files.h"
#include "rwkvx/formats/safetensors.h"

namespace rwkvx {

// A mapped .pth file. Tensors stay in the mapping; only those that are not contiguous are copied.
// A pickle is a program: here it may build dicts, lists, tuples, texts, numbers and tensors, and
// anything else is refused. The constructor throws CheckpointError naming the file and the opcode,
// global or tensor at fault, and FileError where the file cannot be opened.
class PthFile {
 public:
  explicit PthFile(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  // The dict's tensors in its order. Where it has none itself, the dict in it under "state_dict",
  // "model_state_dict", "model" or "module" is meant.
  const std::vector<TensorView>& tensors() const { return tensors_; }
  // Null where there is none of this name.
  const TensorView* find(std::string_view name) const;
  // The dict's entries that are texts, numbers, booleans or None, as text.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  std::filesystem::path path_;
  std::unique_ptr<MappedFile> file_;
  std::vector<std::vector<std::byte>> copies_;  // of tensors that were not contiguous
  std::vector<TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace rwkvx
