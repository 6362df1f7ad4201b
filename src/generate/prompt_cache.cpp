#include "generate/prompt_cache.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
constexpr char kEnding[] = ".state";

}  // namespace

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
  log_warning("--prompt-cache: " + reason + "; continuing without a cache");
}

fs::path PromptCache::file_of(std::span<const TokenId> tokens) const {
  Hasher hasher;
  hasher.add(owner_.model_hash);
  hasher.add(owner_.tokenizer_hash);
  hasher.add({reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes()});
  return folder_ / (hasher.hex() + kEnding);
}

std::optional<PlainState> PromptCache::find(std::span<const TokenId> tokens) const {
  const auto step = static_cast<std::size_t>(kPromptCacheStep);
  if (tokens.empty()) return {};
  for (std::size_t count = (tokens.size() - 1) / step * step; count > 0; count -= step) {
    const auto path = file_of(tokens.first(count));
    std::error_code error;
    if (!fs::exists(path, error)) continue;
    try {
      auto saved = read_state(path, owner_, /*vocab_size=*/0);
      if (saved.state.t != static_cast<std::int64_t>(count)) continue;
      fs::last_write_time(path, fs::file_time_type::clock::now(), error);
      return std::move(saved.state);
    } catch (const Error&) {
      fs::remove(path, error);  // damaged, or gone meanwhile; it will be made again
    }
  }
  return {};
}

void PromptCache::keep(std::span<const TokenId> tokens,
                       const std::function<PlainState()>& state) const {
  const auto path = file_of(tokens);
  std::error_code error;
  if (failed_ || fs::exists(path, error)) return;
  try {
    write_state(path, {state(), {}, {}, ""}, owner_);
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
