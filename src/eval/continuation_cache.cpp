#include "rwkvx/eval/continuation_cache.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/log.h"

namespace rwkvx {
namespace {

std::string key_of(std::string_view prompt, std::uint64_t sequence) {
  return hash_bytes(prompt) + "-" + std::to_string(sequence);
}

void warn(const std::string& reason) {
  log_warning("--cache: " + reason + "; continuing without the cache");
}

// The first bytes of every line.
constexpr std::string_view kBeginning = "{\"key\":\"";

}  // namespace

ContinuationCache::ContinuationCache(const std::filesystem::path& directory,
                                     std::string_view identity)
    : path_(directory / (hash_bytes(identity) + ".jsonl")) {
  std::error_code failed;
  std::filesystem::create_directories(directory, failed);
  const bool writable = !failed && ::access(directory.c_str(), W_OK | X_OK) == 0;
  if (failed)
    warn(directory.string() + ": cannot create this directory: " + failed.message());
  else if (!writable)
    warn(directory.string() + ": cannot be written: " + std::strerror(errno));
  if (writable) file_.emplace(path_);
  if (!std::filesystem::exists(path_, failed)) return;
  const auto lines = read_file(path_);
  const auto refuse = [&](std::size_t line) {
    throw DataError(path_.string() + ":" + std::to_string(line),
                    "not a cached continuation; move or delete the file");
  };
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < lines.size();) {
    const auto end = lines.find('\n', begin);
    ++number;
    if (end == std::string::npos) {  // a line that was cut off
      const auto rest = std::string_view(lines).substr(begin);
      if (!rest.starts_with(kBeginning.substr(0, rest.size()))) refuse(number);
      break;
    }
    const auto text = std::string_view(lines).substr(begin, end - begin);
    begin = end + 1;
    const auto line = parse_json_or_null(text);
    if (text.empty()) continue;
    const auto has_text = [&](const char* name) {
      return line.is_object() && line.contains(name) && line[name].is_string();
    };
    if (has_text("key") && has_text("text"))
      texts_[line["key"].get<std::string>()] = line["text"].get<std::string>();
    else if (!text.starts_with(kBeginning))
      refuse(number);
  }
  if (file_) file_->cut();
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
  if (!file_) return;
  try {
    file_->append(line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  } catch (const FileError& error) {
    file_.reset();
    warn(error.what());
  }
}

}  // namespace rwkvx
