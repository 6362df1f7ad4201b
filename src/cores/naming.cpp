#include "rwkvx/cores/naming.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "rwkvx/base/error.h"
#include "rwkvx/config/model_config.h"
#include "rwkvx/cores/core.h"
#include "rwkvx/cores/names.h"

namespace rwkvx {
namespace {

// Copies of tensors in other layouts, in times the file: tensors of a .pth may share their bytes.
constexpr std::uint64_t kMaxCopiedPerFileByte = 4;

struct Found {
  const Naming* naming;
  std::span<const NameRow> rows;  // the first is the tensor's; more where several are its parts
  std::string block;              // "blocks.3.", or nothing
};

// The rows of a name, which lie one after the other.
std::span<const NameRow> rows_of(std::span<const NameRow> table, std::string_view other) {
  const auto is_it = [&](const NameRow& row) { return without_wrappers(row.other) == other; };
  const auto first = std::find_if(table.begin(), table.end(), is_it);
  const auto last = std::find_if_not(first, table.end(), is_it);
  return {first, last};
}

// "12" of "12.attention.key.weight", with the dot dropped from `rest`; "" where it does not begin
// with a number.
std::string_view take_number(std::string_view& rest) {
  const auto dot = rest.find('.');
  if (dot == 0 || dot == std::string_view::npos) return "";
  const auto number = rest.substr(0, dot);
  if (!std::all_of(number.begin(), number.end(),
                   [](unsigned char c) { return std::isdigit(c) != 0; }))
    return "";
  rest.remove_prefix(dot + 1);
  return number;
}

std::optional<Found> find_row(std::string_view name) {
  for (const auto* core : all_cores())
    for (const auto& naming : core->namings()) {
      if (const auto rows = rows_of(naming.model, name); !rows.empty())
        return Found{&naming, rows, ""};
      const auto block = without_wrappers(naming.block);
      if (block.empty() || !name.starts_with(block)) continue;
      auto rest = name.substr(block.size());
      const auto number = take_number(rest);
      if (number.empty()) continue;
      if (const auto rows = rows_of(naming.blocks, rest); !rows.empty())
        return Found{&naming, rows, "blocks." + std::string(number) + "."};
    }
  return std::nullopt;
}

// A file whose tensors are renamed, sliced or copied from another one.
class Laid : public TensorFile::Contents {
 public:
  explicit Laid(const TensorFile& file) : base_(file) {
    path = file.path();
    metadata = file.metadata();
    stored_bytes = file.stored_bytes();
    std::unordered_set<std::string> names;
    for (const auto& tensor : file.tensors()) add(tensor);
    for (std::size_t i = 0; i < tensors.size(); ++i)
      if (!names.insert(tensors[i].name).second)
        fail(given_[i], "is another tensor by the name of " + tensors[i].name);
  }

  bool has_checksums() const override { return base_.has_checksums(); }
  void verify() const override { base_.verify(); }

 private:
  [[noreturn]] void fail(const std::string& tensor, const std::string& reason) const {
    throw CheckpointError(path.string() + ": " + tensor.substr(0, 200), reason);
  }

  void add(const TensorView& tensor) {
    const auto name = without_wrappers(tensor.name);
    const auto found = find_row(name);
    if (!found) return put(tensor.name, std::string(name), tensor);
    const bool first_block = found->block == block_prefix(0);
    for (const auto& row : found->rows) {
      if (first_block && !row.in_first_block.empty()) continue;
      put(tensor.name, found->block + std::string(row.official),
          laid(tensor, *found->naming, row, found->rows.size()));
    }
  }

  void put(const std::string& given, std::string name, TensorView tensor) {
    tensor.name = std::move(name);
    tensors.push_back(std::move(tensor));
    given_.push_back(given);
  }

  TensorView laid(const TensorView& tensor, const Naming& naming, const NameRow& row,
                  std::size_t parts) {
    auto out = tensor;
    switch (row.layout) {
      case Layout::kSame:
      case Layout::kVector:
        return out;
      case Layout::kTransposed:
        if (tensor.shape.size() != 2)
          fail(tensor.name, "expected a matrix, got shape " + shape_text(tensor.shape));
        copied_ += tensor.bytes.size();
        if (copied_ > kMaxCopiedPerFileByte * stored_bytes)
          fail(tensor.name, "too many tensors share their bytes: the file is damaged");
        std::swap(out.shape[0], out.shape[1]);
        out.bytes = own_.emplace_back(transposed(tensor));
        return out;
      case Layout::kPart: {
        if (tensor.shape.size() < 2 || tensor.shape[0] != static_cast<std::int64_t>(parts))
          fail(tensor.name, "expected " + std::to_string(parts) + " vectors, got shape " +
                                shape_text(tensor.shape));
        const auto size = tensor.bytes.size() / parts;
        out.shape.erase(out.shape.begin());
        out.bytes = tensor.bytes.subspan(static_cast<std::size_t>(row.part) * size, size);
        return out;
      }
      case Layout::kHeads: {
        if (tensor.shape.size() > 1) return out;
        const auto entry = metadata.find(std::string(naming.head_size_key));
        std::int64_t size = 0;
        if (entry != metadata.end())
          std::from_chars(entry->second.data(), entry->second.data() + entry->second.size(), size);
        if (size <= 0 || tensor.numel() % size != 0)
          fail(tensor.name, "expected heads of the size that the file names as " +
                                std::string(naming.head_size_key) + ", got shape " +
                                shape_text(tensor.shape));
        out.shape = {tensor.numel() / size, size};
        return out;
      }
    }
    return out;
  }

  TensorFile base_;
  std::deque<std::vector<std::byte>> own_;
  std::vector<std::string> given_;  // the names in the file
  std::uint64_t copied_ = 0;
};

// Makes the tensors of a naming.
class NamedTensors {
 public:
  NamedTensors(const TensorFile& file, const std::function<DType(const TensorView&)>& dtype)
      : file_(file), dtype_(dtype) {}

  // The tensors of a table's rows, with these prefixes before the names.
  void add(std::span<const NameRow> table, const std::string& official, const std::string& other,
           bool first_block) {
    for (std::size_t i = 0; i < table.size();) {
      const auto& row = table[i];
      std::vector<const TensorView*> sources;
      for (; i < table.size() && table[i].other == row.other; ++i) {
        auto name = table[i].official;
        if (first_block && !table[i].in_first_block.empty()) {
          used_.insert(official + std::string(name));  // has no use there
          name = table[i].in_first_block;
          if (name == kNothing) continue;
        }
        const auto full = official + std::string(name);
        used_.insert(full);
        if (const auto* tensor = file_.find(full))
          sources.push_back(tensor);
        else
          throw CheckpointError(file_.path().string() + ": " + full,
                                "is missing; the format needs it");
      }
      if (!sources.empty()) make(row.layout, other + std::string(row.other), sources);
    }
  }

  const std::unordered_set<std::string>& used() const { return used_; }
  std::vector<PendingTensor> tensors;

 private:
  void make(Layout layout, std::string name, std::vector<const TensorView*> sources) {
    const auto& first = *sources.front();
    PendingTensor out{std::move(name), dtype_(first), first.shape, {}};
    if (layout == Layout::kVector || layout == Layout::kHeads) out.shape = {first.numel()};
    if (layout == Layout::kTransposed) {
      if (out.shape.size() != 2)
        throw CheckpointError(file_.path().string() + ": " + first.name,
                              "expected a matrix, got shape " + shape_text(first.shape));
      std::swap(out.shape[0], out.shape[1]);
    }
    if (layout == Layout::kPart)
      out.shape = {static_cast<std::int64_t>(sources.size()), 1, 1, first.numel()};
    out.bytes = [layout, sources,
                 type = out.dtype](std::vector<std::byte>& room) -> std::span<const std::byte> {
      if (layout != Layout::kPart && layout != Layout::kTransposed && sources[0]->dtype == type)
        return sources[0]->bytes;
      room.clear();
      for (const auto* source : sources) {
        auto bytes = converted(*source, type);
        if (layout == Layout::kTransposed)
          bytes = transposed({source->name, type, source->shape, bytes});
        room.insert(room.end(), bytes.begin(), bytes.end());
      }
      return room;
    };
    tensors.push_back(std::move(out));
  }

  const TensorFile& file_;
  const std::function<DType(const TensorView&)>& dtype_;
  std::unordered_set<std::string> used_;
};

}  // namespace

std::string_view without_wrappers(std::string_view name) {
  // In any order. The last two are those of converted models, whose tables name them.
  constexpr std::array<std::string_view, 5> kPrefixes{"_forward_module.", "module.", "_orig_mod.",
                                                      "rwkv.", "model."};
  for (bool found = true; found;) {
    found = false;
    for (const auto prefix : kPrefixes)
      if (name.starts_with(prefix)) {
        name.remove_prefix(prefix.size());
        found = true;
      }
  }
  return name;
}

std::string official_name(std::string_view name) {
  name = without_wrappers(name);
  const auto found = find_row(name);
  return found ? found->block + std::string(found->rows.front().official) : std::string(name);
}

TensorFile with_layout_of_official(const TensorFile& file) {
  return TensorFile(std::make_shared<Laid>(file));
}

std::vector<PendingTensor> in_layout_of(const Naming& naming, const ModelConfig& config,
                                        const TensorFile& file,
                                        const std::function<DType(const TensorView& tensor)>& dtype,
                                        const std::function<bool(const std::string&)>& left_out) {
  NamedTensors named(file, dtype);
  named.add(naming.model, "", "", false);
  for (std::int64_t i = 0; i < config.n_layer; ++i)
    named.add(naming.blocks, block_prefix(i), std::string(naming.block) + std::to_string(i) + ".",
              i == 0);
  for (const auto& tensor : file.tensors())
    if (!named.used().contains(tensor.name) && !left_out(tensor.name))
      throw CheckpointError(file.path().string() + ": " + tensor.name,
                            "has no place in the format");
  return std::move(named.tensors);
}

}  // namespace rwkvx
