#include "generate/state_file.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <system_error>
#include <utility>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/formats/safetensors.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
constexpr char kFormat[] = "rwkvx state 1";
constexpr char kEnding[] = ".state";

template <class T>
TensorView view_of(const std::string& name, DType dtype, const std::vector<T>& values) {
  return {
      name, dtype, {static_cast<std::int64_t>(values.size())}, std::as_bytes(std::span(values))};
}

template <class T>
std::vector<T> values_of(const SafetensorsFile& file, const std::string& name, DType dtype,
                         std::int64_t count) {
  const auto& tensor = file.at(name);
  const std::vector<std::int64_t> wanted{count < 0 ? tensor.numel() : count};
  if (tensor.dtype != dtype || tensor.shape != wanted)
    throw DataError(file.path().string() + ": " + name,
                    "wanted " + std::string(dtype_name(dtype)) + " " + shape_text(wanted) +
                        ", found " + std::string(dtype_name(tensor.dtype)) + " " +
                        shape_text(tensor.shape) + "; the state is of another model");
  std::vector<T> out(static_cast<std::size_t>(tensor.numel()));
  if (!out.empty()) std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
  return out;
}

std::string entry(const SafetensorsFile& file, const std::string& name) {
  const auto found = file.metadata().find(name);
  return found == file.metadata().end() ? "" : found->second;
}

std::int64_t whole_number(const SafetensorsFile& file, const std::string& name) {
  const auto text = entry(file, name);
  std::int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0)
    throw DataError(file.path().string(),
                    "wanted a whole number as \"" + name + "\", found \"" + text + "\"");
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
  const TensorView views[] = {view_of("state", DType::kF32, saved.state.values),
                              view_of("logits", DType::kF32, saved.logits),
                              view_of("seen.ids", DType::kI32, ids),
                              view_of("seen.counts", DType::kF64, counts),
                              {"held",
                               DType::kU8,
                               {static_cast<std::int64_t>(saved.text.held.size())},
                               std::as_bytes(std::span(saved.text.held))},
                              view_of("prefix", DType::kI32, saved.text.prefix)};
  write_safetensors(path, views,
                    {{"format", kFormat},
                     {"model", owner.model_hash},
                     {"tokenizer", owner.tokenizer_hash},
                     {"text", saved.text_hash},
                     {"tokens", std::to_string(saved.state.t)},
                     {"drawn", std::to_string(saved.text.sampler.drawn)},
                     {"at_start", std::to_string(saved.text.at_start ? 1 : 0)}});
}

SavedState read_state(const fs::path& path, const StateOwner& owner, const EngineState& like,
                      std::int64_t vocab_size) {
  try {
    const SafetensorsFile file(path);
    if (entry(file, "format") != kFormat)
      throw DataError(path.string(), std::string("wanted a state file (\"") + kFormat +
                                         "\"), found \"" + entry(file, "format") + "\"");
    file.verify();
    if (!file.has_checksums()) throw DataError(path.string(), "has lost its checksums");
    for (const auto& [name, wanted] :
         {std::pair{"model", owner.model_hash}, std::pair{"tokenizer", owner.tokenizer_hash}})
      if (entry(file, name) != wanted)
        throw DataError(path.string(), "is the state of another " + std::string(name) +
                                           ": wanted " + wanted + ", found " + entry(file, name));
    SavedState out;
    out.state.values =
        values_of<float>(file, "state", DType::kF32, static_cast<std::int64_t>(like.values.size()));
    out.state.t = whole_number(file, "tokens");
    out.logits = values_of<float>(file, "logits", DType::kF32, vocab_size);
    out.text.sampler.drawn = static_cast<std::uint64_t>(whole_number(file, "drawn"));
    out.text_hash = entry(file, "text");
    const auto ids = values_of<std::int32_t>(file, "seen.ids", DType::kI32, -1);
    const auto counts =
        values_of<double>(file, "seen.counts", DType::kF64, static_cast<std::int64_t>(ids.size()));
    for (std::size_t i = 0; i < ids.size(); ++i) out.text.sampler.seen[ids[i]] = counts[i];
    const auto held = values_of<char>(file, "held", DType::kU8, -1);
    out.text.held.assign(held.begin(), held.end());
    out.text.prefix = values_of<std::int32_t>(file, "prefix", DType::kI32, -1);
    out.text.at_start = whole_number(file, "at_start") != 0;
    return out;
  } catch (const CheckpointError& error) {
    throw DataError("", error.what());
  }
}

PromptCache::PromptCache(fs::path folder, std::int64_t bytes, StateOwner owner)
    : folder_(std::move(folder)), bytes_(bytes), owner_(std::move(owner)) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) {
    give_up("cannot make this directory: " + error.message());
    return;
  }
  remove_leftovers(folder_);
}

void PromptCache::give_up(const std::string& reason) const {
  if (std::exchange(failed_, true)) return;
  log_warning("--prompt-cache: " + reason + "; going on without keeping states");
}

fs::path PromptCache::file_of(std::span<const TokenId> tokens) const {
  Hasher hasher;
  hasher.add(owner_.model_hash);
  hasher.add(owner_.tokenizer_hash);
  hasher.add({reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes()});
  return folder_ / (hasher.hex() + kEnding);
}

std::int64_t PromptCache::find(std::span<const TokenId> tokens, EngineState& state) const {
  const auto step = static_cast<std::size_t>(kPromptCacheStep);
  if (tokens.empty()) return 0;
  for (std::size_t count = (tokens.size() - 1) / step * step; count > 0; count -= step) {
    const auto path = file_of(tokens.first(count));
    std::error_code error;
    if (!fs::exists(path, error)) continue;
    try {
      auto saved = read_state(path, owner_, state, 0);
      if (saved.state.t != static_cast<std::int64_t>(count)) continue;
      state = std::move(saved.state);
      fs::last_write_time(path, fs::file_time_type::clock::now(), error);
      return static_cast<std::int64_t>(count);
    } catch (const Error&) {
      fs::remove(path, error);  // damaged, or gone meanwhile; it will be made again
    }
  }
  return 0;
}

void PromptCache::keep(std::span<const TokenId> tokens, const EngineState& state) const {
  const auto path = file_of(tokens);
  std::error_code error;
  if (failed_ || fs::exists(path, error)) return;
  try {
    write_state(path, {state, {}, {}, ""}, owner_);
  } catch (const FileError& failure) {
    return give_up(failure.what());
  }
  make_room();
}

void PromptCache::make_room() const {
  struct Entry {
    fs::file_time_type time;
    std::uintmax_t size;
    fs::path path;
  };
  std::vector<Entry> entries;
  std::uintmax_t total = 0;
  std::error_code error;
  // Other processes may be at work here, so that files come and go.
  fs::directory_iterator it(folder_, error);
  for (const fs::directory_iterator end; !error && it != end; it.increment(error)) {
    const auto& one = *it;
    const bool temporary = one.path().extension() == ".tmp";  // of a writer that is at work
    if (!temporary && one.path().extension() != kEnding) continue;
    std::error_code gone;
    const auto size = one.file_size(gone);
    const auto time = one.last_write_time(gone);
    if (gone) continue;
    if (!temporary) entries.push_back({time, size, one.path()});
    total += size;
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.time < b.time; });
  for (const auto& one : entries) {
    if (total <= static_cast<std::uintmax_t>(bytes_)) return;
    if (fs::remove(one.path, error)) total -= one.size;
  }
}

}  // namespace rwkvx
