#include "rwkvx/formats/tensor_file.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "rwkvx/base/error.h"
#include "rwkvx/base/file_kind.h"
#include "rwkvx/formats/pth.h"

namespace rwkvx {
namespace {

// What a file that should hold weights is instead, "" where it may hold some.
std::string other_kind(std::string_view first) {
  const auto kind = file_kind(first);
  if (kind == kSafetensorsKind) return "";
  if (!kind.empty()) return kind;
  const auto text =
      first.substr(std::min(first.find_first_not_of(" \t\r\n\xEF\xBB\xBF"), first.size()));
  std::string lower(text.substr(0, 200));
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const auto* mark : {"<!doctype html", "<html", "<head", "<?xml", "<!--"})
    if (lower.starts_with(mark)) return "a web page (HTML)";
  if (lower.find('\0') != std::string::npos) return "";
  if (lower.starts_with("{\"") || lower.starts_with("[{")) return "JSON text";
  return "";
}

template <class File>
TensorFile share(std::shared_ptr<File> file) {
  return {file->path(), file->tensors(), file->metadata(), file};
}

}  // namespace

TensorFile::TensorFile(std::filesystem::path path, std::vector<TensorView> tensors,
                       std::map<std::string, std::string> metadata,
                       std::shared_ptr<const void> owner)
    : path_(std::move(path)),
      tensors_(std::move(tensors)),
      metadata_(std::move(metadata)),
      owner_(std::move(owner)) {}

const TensorView* TensorFile::find(std::string_view name) const {
  for (const auto& tensor : tensors_)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

const TensorView& TensorFile::at(std::string_view name) const {
  const auto* tensor = find(name);
  if (tensor == nullptr)
    throw CheckpointError(path_.string() + ": " + std::string(name),
                          "wanted this tensor, the file has none");
  return *tensor;
}

TensorFile open_tensor_file(const std::filesystem::path& path) {
  const auto first = first_bytes(path.string());
  if (first.starts_with("PK") && file_kind(first) != kSafetensorsKind)
    return share(std::make_shared<PthFile>(path));
  if (first.starts_with("\x80\x02\x8a\x0a"))
    throw CheckpointError(
        path.string(),
        "was saved by PyTorch before 1.6, whose files are not read; load and save "
        "it with a later PyTorch");
  if (first.starts_with("version https://git-lfs"))
    throw CheckpointError(path.string(),
                          "is a Git LFS pointer, not the weights themselves; run git lfs pull");
  if (const auto kind = other_kind(first); !kind.empty())
    throw CheckpointError(path.string(), "is " + kind +
                                             ", expected weights: a .safetensors file or the .pth "
                                             "that torch.save writes; download it again");
  return share(std::make_shared<SafetensorsFile>(path));
}

}  // namespace rwkvx
