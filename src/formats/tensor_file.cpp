#include "rwkvx/formats/tensor_file.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <unordered_set>
#include <utility>

#include "formats/format.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/file_kind.h"
#include "rwkvx/formats/safetensors.h"

namespace rwkvx {

extern const Format kSafetensors, kPth, kGguf;

namespace {

// Every format that is read: the first that recognizes a file reads it.
constexpr std::array kFormats{&kSafetensors, &kPth, &kGguf};

// What a file that should hold weights is instead, "" where it may hold some.
std::string other_kind(std::string_view first) {
  const auto kind = file_kind(first);
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

std::string all_formats() {
  std::string text;
  for (const auto* format : kFormats)
    text += (text.empty() ? "" : " or ") + std::string(format->file);
  return text;
}

class Merged : public TensorFile::Contents {
 public:
  Merged(const std::filesystem::path& name, const std::vector<TensorFile>& files) : files_(files) {
    path = name;
    std::unordered_set<std::string_view> names;
    for (const auto& file : files_) {
      stored_bytes += file.stored_bytes();
      for (const auto& tensor : file.tensors()) {
        if (!names.insert(tensor.name).second)
          throw CheckpointError(file.path().string() + ": " + shown(tensor.name),
                                "another file of " + path.string() + " has this tensor too");
        tensors.push_back(tensor);
      }
    }
  }

 private:
  std::vector<TensorFile> files_;
};

}  // namespace

TensorFile merged(const std::filesystem::path& path, const std::vector<TensorFile>& files) {
  return TensorFile(std::make_shared<Merged>(path, files));
}

TensorFile::TensorFile(std::shared_ptr<const Contents> contents)
    : contents_(std::move(contents)), tensors_(contents_, &contents_->tensors) {
  index();
}

void TensorFile::index() {
  std::unordered_map<std::string_view, std::size_t> places;
  for (std::size_t i = 0; i < tensors_->size(); ++i) places.emplace((*tensors_)[i].name, i);
  index_ = std::make_shared<decltype(places)>(std::move(places));
}

const TensorView* TensorFile::find(std::string_view name) const {
  const auto found = index_->find(name);
  return found == index_->end() ? nullptr : &(*tensors_)[found->second];
}

const TensorView& TensorFile::at(std::string_view name) const {
  const auto* tensor = find(name);
  if (tensor == nullptr)
    throw CheckpointError(path().string() + ": " + shown(name),
                          "expected this tensor, the file has none");
  return *tensor;
}

TensorFile open_tensor_file(const std::filesystem::path& path) {
  const auto beginning = first_bytes(path.string());
  for (const auto* format : kFormats)
    if (format->recognizes(beginning)) return TensorFile(format->read(path));
  if (beginning.starts_with("version https://git-lfs"))
    throw CheckpointError(path.string(),
                          "is a Git LFS pointer, not the weights themselves; run git lfs pull");
  if (const auto kind = other_kind(beginning); !kind.empty())
    throw CheckpointError(path.string(), "is " + kind + ", expected weights: " + all_formats() +
                                             "; download it again");
  return read_safetensors(path);  // which says what is wrong with it
}

}  // namespace rwkvx
