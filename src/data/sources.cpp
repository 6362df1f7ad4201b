#include "data/sources.h"

#include <glob.h>

#include <algorithm>
#include <set>

#include "rwkvx/base/error.h"
#include "rwkvx/base/file_kind.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

// Whether these are the files of a token file: its .idx, or another with the .idx beside it.
bool of_token_file(const fs::path& path) {
  const auto extension = path.extension();
  if (extension == ".idx") return true;
  return (extension == ".bin" || extension == ".json") && is_there(TokenFilePaths(path).index);
}

// What is looked for in a directory.
bool looks_like_text(fs::path path) {
  if (path.extension() == ".npy") return true;
  if (path.extension() == ".gz" || path.extension() == ".zst") path.replace_extension();
  for (const char* ending : {".txt", ".jsonl", ".ndjson", ".json", ".md"})
    if (path.extension() == ending) return true;
  return false;
}

std::vector<fs::path> files_below(const std::string& directory) {
  std::vector<fs::path> files;
  try {
    for (auto at = fs::recursive_directory_iterator(directory); at != fs::end(at); ++at) {
      if (at->path().filename().string().starts_with('.')) {
        if (at->is_directory()) at.disable_recursion_pending();
      } else if (at->is_regular_file() &&
                 (looks_like_text(at->path()) || of_token_file(at->path()))) {
        files.push_back(at->path());
      }
    }
  } catch (const fs::filesystem_error& error) {
    throw FileError(directory, "cannot read the directory: " + error.code().message());
  }
  std::sort(files.begin(), files.end());
  if (files.empty())
    throw DataError(directory,
                    "holds no text: no .txt, .jsonl, .md or .npy, plain or as .gz or .zst, "
                    "and no token file .idx");
  return files;
}

std::vector<fs::path> files_like(const std::string& pattern) {
  glob_t found{};
  const int result = ::glob(pattern.c_str(), GLOB_ERR | GLOB_BRACE, nullptr, &found);
  const std::shared_ptr<glob_t> end(&found, [](glob_t* one) { ::globfree(one); });
  if (result != 0 && result != GLOB_NOMATCH)
    throw FileError(pattern, "cannot be looked up in the directories it names");
  std::vector<fs::path> files;
  for (std::size_t i = 0; i < found.gl_pathc; ++i)
    if (const fs::path path = found.gl_pathv[i]; !is_folder(path)) files.push_back(path);
  if (files.empty()) throw DataError(pattern, "no file has a name like this");
  return files;
}

}  // namespace

Sources find_sources(const std::vector<std::string>& entries, const std::string& where) {
  if (entries.empty())
    throw ConfigError(where, "names no text; expected one or more files, directories or patterns");
  Sources sources;
  std::set<fs::path> seen;
  const auto add_tokens = [&](const fs::path& path, bool again) {
    const auto prefix = TokenFilePaths(path).prefix;
    if (seen.insert(prefix).second || again) sources.tokens.push_back(prefix);
  };
  const auto add_found = [&](const std::vector<fs::path>& files) {
    seen.clear();
    for (const auto& file : files) {
      if (of_token_file(file))
        add_tokens(file, /*again=*/false);
      else
        sources.texts.push_back(file.string());
    }
  };
  for (const auto& entry : entries) {
    if (entry == "-" || (is_there(entry) && !is_folder(entry))) {
      if (entry != "-" && of_token_file(entry))
        add_tokens(entry, /*again=*/true);
      else
        sources.texts.push_back(entry);
    } else if (is_folder(entry)) {
      add_found(files_below(entry));
    } else if (const auto prefix = TokenFilePaths(entry);
               is_there(prefix.index) && is_there(prefix.tokens)) {
      sources.tokens.push_back(prefix.prefix);
    } else if (entry.find_first_of("*?[") != std::string::npos) {
      add_found(files_like(entry));
    } else {
      sources.texts.push_back(entry);  // whoever opens it says what is wrong
    }
  }
  return sources;
}

std::vector<std::string> find_texts(const std::vector<std::string>& entries,
                                    const std::string& where) {
  auto sources = find_sources(entries, where);
  if (!sources.tokens.empty())
    throw DataError(sources.tokens.front().string() + ".idx",
                    "is a token file, expected text; only `train` reads token files, with the "
                    "tokenizer that made them in tokenizer.path");
  return std::move(sources.texts);
}

}  // namespace rwkvx
