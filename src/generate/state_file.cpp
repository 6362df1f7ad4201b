#include "generate/state_file.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <span>
#include <utility>

#include "rwkvx/base/error.h"
#include "rwkvx/formats/safetensors.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
constexpr char kFormat[] = "rwkvx state 2", kOldFormat[] = "rwkvx state 1";

std::span<const std::byte> bytes_of(const std::vector<float>& values) {
  return std::as_bytes(std::span(values));
}

template <class T>
TensorView view_of(const std::string& name, DType dtype, const std::vector<T>& values) {
  return {
      name, dtype, {static_cast<std::int64_t>(values.size())}, std::as_bytes(std::span(values))};
}

template <class T>
std::vector<T> values_of(const TensorFile& file, const std::string& name, DType dtype,
                         std::vector<std::int64_t> shape) {
  const auto& tensor = file.at(name);
  if (tensor.dtype != dtype || tensor.shape != shape)
    throw DataError(file.path().string() + ": " + name,
                    "expected " + std::string(dtype_name(dtype)) + " " + shape_text(shape) +
                        ", got " + std::string(dtype_name(tensor.dtype)) + " " +
                        shape_text(tensor.shape) + "; the state is of another model");
  std::vector<T> out(static_cast<std::size_t>(tensor.numel()));
  if (!out.empty()) std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
  return out;
}

// A list of any length.
template <class T>
std::vector<T> list_of(const TensorFile& file, const std::string& name, DType dtype) {
  return values_of<T>(file, name, dtype, {file.at(name).numel()});
}

std::string entry(const TensorFile& file, const std::string& name) {
  const auto found = file.metadata().find(name);
  return found == file.metadata().end() ? "" : found->second;
}

std::int64_t whole_number(const TensorFile& file, const std::string& name) {
  const auto text = entry(file, name);
  std::int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0)
    throw DataError(file.path().string(),
                    "expected a whole number as \"" + name + "\", got \"" + text + "\"");
  return value;
}

}  // namespace

void write_state(const fs::path& path, const SavedState& saved, const StateOwner& owner) {
  std::vector<std::int32_t> ids;
  std::vector<double> counts;
  std::vector<std::pair<TokenId, double>> seen(saved.text.sampler.seen.begin(),
                                               saved.text.sampler.seen.end());
  std::sort(seen.begin(), seen.end());
  for (const auto& [id, count] : seen) {
    ids.push_back(id);
    counts.push_back(count);
  }
  std::vector<TensorView> views;
  for (std::size_t i = 0; i < owner.rows.size(); ++i)
    views.push_back(
        {owner.rows[i].name, DType::kF32, owner.rows[i].shape, bytes_of(saved.state.values[i])});
  views.push_back(view_of("logits", DType::kF32, saved.logits));
  views.push_back(view_of("seen.ids", DType::kI32, ids));
  views.push_back(view_of("seen.counts", DType::kF64, counts));
  views.push_back({"held",
                   DType::kU8,
                   {static_cast<std::int64_t>(saved.text.held.size())},
                   std::as_bytes(std::span(saved.text.held))});
  views.push_back(view_of("prefix", DType::kI32, saved.text.prefix));
  write_safetensors(path, views,
                    {{"format", kFormat},
                     {"model", owner.model_hash},
                     {"tokenizer", owner.tokenizer_hash},
                     {"text", saved.text_hash},
                     {"tokens", std::to_string(saved.state.t)},
                     {"drawn", std::to_string(saved.text.sampler.drawn)},
                     {"at_start", std::to_string(saved.text.at_start ? 1 : 0)}});
}

SavedState read_state(const fs::path& path, const StateOwner& owner, std::int64_t vocab_size) {
  try {
    const auto file = read_safetensors(path);
    const auto format = entry(file, "format");
    if (format == kOldFormat)
      throw DataError(path.string(), std::string("is a state of an earlier version (\"") + format +
                                         "\"), which is no longer read; make it again with "
                                         "--save-state");
    if (format.starts_with("rwkvx adapter"))
      throw DataError(path.string(), "is an adapter, expected a state file; use it with --adapter");
    if (format != kFormat)
      throw DataError(path.string(), std::string("expected a state file (\"") + kFormat +
                                         "\"), got \"" + format + "\"");
    file.verify();
    if (!file.has_checksums()) throw DataError(path.string(), "has lost its checksums");
    for (const auto& [name, wanted] :
         {std::pair{"model", owner.model_hash}, std::pair{"tokenizer", owner.tokenizer_hash}})
      if (entry(file, name) != wanted)
        throw DataError(path.string(), "is the state of another " + std::string(name) +
                                           ": expected " + wanted + ", got " + entry(file, name));
    SavedState out;
    for (const auto& row : owner.rows)
      out.state.values.push_back(values_of<float>(file, row.name, DType::kF32, row.shape));
    out.state.t = whole_number(file, "tokens");
    out.logits = values_of<float>(file, "logits", DType::kF32, {vocab_size});
    out.text.sampler.drawn = static_cast<std::uint64_t>(whole_number(file, "drawn"));
    out.text_hash = entry(file, "text");
    const auto ids = list_of<std::int32_t>(file, "seen.ids", DType::kI32);
    const auto counts = values_of<double>(file, "seen.counts", DType::kF64,
                                          {static_cast<std::int64_t>(ids.size())});
    for (std::size_t i = 0; i < ids.size(); ++i) out.text.sampler.seen[ids[i]] = counts[i];
    const auto held = list_of<char>(file, "held", DType::kU8);
    out.text.held.assign(held.begin(), held.end());
    out.text.prefix = list_of<std::int32_t>(file, "prefix", DType::kI32);
    out.text.at_start = whole_number(file, "at_start") != 0;
    return out;
  } catch (const CheckpointError& error) {
    throw DataError("", error.what());
  }
}

}  // namespace rwkvx
