// Files of named tensors in any of the formats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "rwkvx/formats/tensor.h"

namespace rwkvx {

// An open file. Cheap to copy; the tensors' bytes live as long as one of the copies.
class TensorFile {
 public:
  // What a format's reader makes of a file. It owns the bytes that the tensors refer to.
  struct Contents {
    virtual ~Contents() = default;
    virtual bool has_checksums() const { return false; }
    virtual void verify() const {}

    std::filesystem::path path;
    std::vector<TensorView> tensors;
    std::map<std::string, std::string> metadata;
    std::uint64_t stored_bytes = 0;  // of the file, or of all that make it up
  };

  explicit TensorFile(std::shared_ptr<const Contents> contents);

  const std::filesystem::path& path() const { return contents_->path; }
  const std::vector<TensorView>& tensors() const { return *tensors_; }
  // Null where there is none of this name.
  const TensorView* find(std::string_view name) const;
  // Throws CheckpointError where there is none of this name.
  const TensorView& at(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return contents_->metadata; }
  std::uint64_t stored_bytes() const { return contents_->stored_bytes; }
  // Whether the file carries checksums; those of other tools do not.
  bool has_checksums() const { return contents_->has_checksums(); }
  // Reads everything and throws CheckpointError naming the first tensor whose bytes differ from its
  // checksum, or the header where that was changed. Does nothing without checksums.
  void verify() const { contents_->verify(); }

 private:
  void index();

  std::shared_ptr<const Contents> contents_;
  std::shared_ptr<const std::vector<TensorView>> tensors_;
  std::shared_ptr<const std::unordered_map<std::string_view, std::size_t>> index_;
};

// Opens a file in one of the formats, told apart by content. Throws CheckpointError for what is of
// none or is damaged, FileError where it cannot be opened.
TensorFile open_tensor_file(const std::filesystem::path& path);

// Several files as one whose path is `path`; its tensors are theirs, in this order. Throws
// CheckpointError where two have a tensor of the same name.
TensorFile merged(const std::filesystem::path& path, const std::vector<TensorFile>& files);

}  // namespace rwkvx
