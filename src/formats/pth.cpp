#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <unordered_set>
#include <utility>

#include "formats/format.h"
#include "formats/pickle.h"
#include "formats/zip_file.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"

namespace rwkvx {
namespace {

// Tensors that are not contiguous are copied; several may be views of one storage.
constexpr std::uint64_t kMaxCopiedPerFileByte = 4;

struct Layout {
  std::uint64_t elements = 1;
  bool contiguous = true;
};

// Checks that a tensor's elements lie in its storage, each once. Returns what is wrong, or "".
std::string check_layout(const Object& tensor, Layout& layout) {
  const auto size = static_cast<std::int64_t>(dtype_size(tensor.dtype));
  const auto stored = static_cast<std::int64_t>(tensor.text.size()) / size;
  std::int64_t elements = 1, product = size, last = tensor.integer, dense = 1;
  if (tensor.integer < 0) return "has a negative offset";
  for (std::size_t d = tensor.shape.size(); d-- > 0;) {
    const auto count = tensor.shape[d], stride = tensor.strides[d];
    std::int64_t reach = 0;
    if (count < 0 || stride < 0) return "has a negative size or stride";
    if (__builtin_mul_overflow(product, std::max<std::int64_t>(count, 1), &product))
      return "is too large";
    elements *= count;  // no overflow: no larger than the product
    if (count > 1 && stride != dense) layout.contiguous = false;
    if (count > 0 && (__builtin_mul_overflow(count - 1, stride, &reach) ||
                      __builtin_add_overflow(last, reach, &last)))
      return "reaches outside its storage";
    dense *= std::max<std::int64_t>(count, 1);
  }
  layout.elements = static_cast<std::uint64_t>(elements);
  if (elements == 0) return tensor.integer <= stored ? "" : "reaches outside its storage";
  if (last >= stored) return "reaches outside its storage";
  if (elements > stored) return "repeats elements of its storage (an expanded tensor)";
  return "";
}

// Copies strided elements in row-major order.
std::vector<std::byte> gather(const Object& tensor, std::uint64_t elements) {
  const auto size = dtype_size(tensor.dtype);
  std::vector<std::byte> out(elements * size);
  std::vector<std::int64_t> index(tensor.shape.size(), 0);
  std::int64_t from = tensor.integer;
  for (std::uint64_t i = 0; i < elements; ++i) {
    std::memcpy(out.data() + i * size, tensor.text.data() + static_cast<std::size_t>(from) * size,
                size);
    for (std::size_t d = index.size(); d-- > 0;) {
      from += tensor.strides[d];
      if (++index[d] < tensor.shape[d]) break;
      from -= tensor.strides[d] * tensor.shape[d];
      index[d] = 0;
    }
  }
  return out;
}

std::optional<std::string> scalar_text(const Object& object) {
  switch (object.kind) {
    case Kind::kNone:
      return "null";
    case Kind::kBool:
      return object.integer != 0 ? "true" : "false";
    case Kind::kInteger:
      return std::to_string(object.integer);
    case Kind::kFloat: {
      std::array<char, 64> digits{};
      const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), object.number);
      return std::string(digits.data(), end.ptr);
    }
    case Kind::kText:
      return std::string(object.text);
    default:
      return std::nullopt;
  }
}

constexpr int kMaxWrappers = 4;

// The dict of tensors in a dict that has none itself: a training saves the model beside its
// optimizer.
std::optional<Object::Index> wrapped_dict(const Pickle& pickle, Object::Index at) {
  const auto& items = pickle.objects[at].items;
  std::optional<Object::Index> found;
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    const auto& key = pickle.objects[items[i]];
    const auto& value = pickle.objects[items[i + 1]];
    if (value.kind == Kind::kTensor) return std::nullopt;
    if (key.kind != Kind::kText || value.kind != Kind::kDict) continue;
    for (const std::string_view name : {"state_dict", "model_state_dict", "model", "module"})
      if (key.text == name && !found) found = items[i + 1];
  }
  return found;
}

// Where a pickle begins that PyTorch wrote without an archive around it.
constexpr std::string_view kOldMark = "\x80\x02\x8a\x0a";

// State dicts in PyTorch's .pth files (the zip form that torch.save has written since 1.6), read
// without PyTorch and without running anything that the file asks for. Tensors stay in the mapping;
// only those that are not contiguous are copied. A pickle is a program: here it may build dicts,
// lists, tuples, texts, numbers and tensors, and anything else is refused, with the opcode, global
// or tensor at fault. The tensors are the dict's in its order; where it has none itself, the dict
// in it under "state_dict", "model_state_dict", "model" or "module" is meant. The metadata are the
// dict's entries that are texts, numbers, booleans or None, as text.
class PthFile : public TensorFile::Contents {
 public:
  explicit PthFile(const std::filesystem::path& from);

 private:
  MappedFile file_;
  std::vector<std::vector<std::byte>> copies_;  // of tensors that were not contiguous
};

PthFile::PthFile(const std::filesystem::path& from) : file_(from) {
  path = from;
  stored_bytes = file_.bytes().size();
  const auto where = path.string();
  if (file_.text().starts_with(kOldMark))
    throw CheckpointError(
        where,
        "was saved by PyTorch before 1.6, whose files are not read; load and save "
        "it with a later PyTorch");
  if (!file_.text().starts_with("PK\x03\x04"))
    throw CheckpointError(where,
                          "expected the zip archive that torch.save writes, got another file");
  const ZipFile zip(where, file_.text());

  // Everything lies in one folder of the archive, named after the file that was first written.
  constexpr std::string_view kPickle = "/data.pkl";
  std::string folder;
  for (const auto& [name, bytes] : zip.entries())
    if (name.ends_with(kPickle) && name.find('/') == name.size() - kPickle.size()) {
      if (!folder.empty())
        throw CheckpointError(where, "the archive has two directories with data.pkl");
      folder = name.substr(0, name.size() - kPickle.size());
    }
  if (folder.empty())
    throw CheckpointError(where, "the archive has no data.pkl: torch.save did not write it");
  const auto order = zip.entries().find(folder + "/byteorder");
  if (order != zip.entries().end() && order->second != "little")
    throw CheckpointError(where,
                          "expected little-endian tensors, got byte order " + shown(order->second));

  const std::string pickle_name = folder + std::string(kPickle);
  const auto in_pickle = where + ": " + shown(pickle_name);
  const auto pickle = read_pickle(in_pickle, zip.at(pickle_name), zip, folder);
  auto at = pickle.result;
  if (pickle.objects[at].kind != Kind::kDict)
    throw CheckpointError(in_pickle, "expected a dict of tensors, got " +
                                         std::string(kind_name(pickle.objects[at].kind)));
  // A training's file: the model is one entry among others. The dict may hold itself, so there is a
  // limit.
  for (int depth = 0; depth < kMaxWrappers; ++depth) {
    const auto inner = wrapped_dict(pickle, at);
    if (!inner) break;
    at = *inner;
  }
  const auto& result = pickle.objects[at];

  std::unordered_set<std::string_view> names;
  std::uint64_t may_copy = kMaxCopiedPerFileByte * file_.bytes().size();
  for (std::size_t i = 0; i + 1 < result.items.size(); i += 2) {
    const auto& key = pickle.objects[result.items[i]];
    const auto& value = pickle.objects[result.items[i + 1]];
    if (key.kind != Kind::kText)
      throw CheckpointError(in_pickle, "expected strings as the dict's keys, got " +
                                           std::string(kind_name(key.kind)));
    const std::string name(key.text);
    if (!names.insert(key.text).second)
      throw CheckpointError(in_pickle, "the dict has " + shown(name) + " twice");
    if (const auto text = scalar_text(value)) metadata[name] = *text;
    if (value.kind != Kind::kTensor) continue;
    Layout layout;
    const auto problem = check_layout(value, layout);
    if (!problem.empty())
      throw CheckpointError(where + ": " + shown(name),
                            "shape " + shape_text(value.shape) + " " + problem);
    const auto bytes = layout.elements * dtype_size(value.dtype);
    std::span<const std::byte> content;
    if (layout.contiguous || layout.elements == 0) {
      const auto first = static_cast<std::size_t>(value.integer) * dtype_size(value.dtype);
      content = std::as_bytes(std::span(value.text)).subspan(first, bytes);
    } else {
      if (bytes > may_copy)
        throw CheckpointError(where + ": " + shown(name),
                              "too many tensors are views of the same bytes; call contiguous() on "
                              "each before saving");
      may_copy -= bytes;
      content = copies_.emplace_back(gather(value, layout.elements));
    }
    tensors.push_back({name, value.dtype, value.shape, content});
  }
}

}  // namespace

extern const Format kPth{
    "the .pth that torch.save writes",
    [](std::string_view beginning) {
      return beginning.starts_with("PK") || beginning.starts_with(kOldMark);
    },
    [](const std::filesystem::path& path) -> std::shared_ptr<const TensorFile::Contents> {
      return std::make_shared<PthFile>(path);
    }};

}  // namespace rwkvx
