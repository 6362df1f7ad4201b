#include "rwkvx/eval/continuation_cache.h"

#include <nlohmann/json.hpp>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"

namespace rwkvx {
namespace {

std::string key_of(std::string_view prompt, std::uint64_t sequence) {
  return hash_bytes(prompt) + "-" + std::to_string(sequence);
}

}  // namespace

ContinuationCache::ContinuationCache(const std::filesystem::path& folder, std::string_view identity)
    : path_(folder / (hash_bytes(identity) + ".jsonl")) {
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed) throw FileError(folder.string(), "cannot make the folder: " + failed.message());
  bool cut_off = false;
  if (std::filesystem::exists(path_)) {
    const auto lines = read_file(path_);
    cut_off = !lines.empty() && lines.back() != '\n';
    for (std::size_t begin = 0; begin < lines.size();) {
      const auto end = std::min(lines.find('\n', begin), lines.size());
      const auto line = parse_json_or_null(std::string_view(lines).substr(begin, end - begin));
      begin = end + 1;
      if (!line.is_object() || !line.contains("key") || !line["key"].is_string() ||
          !line.contains("text") || !line["text"].is_string())
        continue;
      texts_[line["key"].get<std::string>()] = line["text"].get<std::string>();
    }
  }
  file_.open(path_, std::ios::app | std::ios::binary);
  if (cut_off) file_ << '\n';
  if (!file_.flush()) throw FileError(path_.string(), "cannot be written");
}

std::optional<std::string> ContinuationCache::find(std::string_view prompt,
                                                   std::uint64_t sequence) const {
  const auto found = texts_.find(key_of(prompt, sequence));
  if (found == texts_.end()) return std::nullopt;
  return found->second;
}

void ContinuationCache::add(std::string_view prompt, std::uint64_t sequence,
                            const std::string& text) {
  const auto key = key_of(prompt, sequence);
  texts_[key] = text;
  const nlohmann::json line = {{"key", key}, {"text", text}};
  file_ << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  if (!file_.flush()) throw FileError(path_.string(), "cannot be written");
}

}  // namespace rwkvx
