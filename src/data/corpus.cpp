#include "rwkvx/data/corpus.h"

#include <algorithm>
#include <optional>

#include "data/documents.h"
#include "data/manifest_store.h"
#include "data/tokenize.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/lock.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/workers.h"

namespace rwkvx {
namespace {

// Puts a pair in place. A manifest that says so stands beside it until both files are there.
void put_in_place(Built& built, const TokenFilePaths& paths, const TokenManifest& manifest) {
  write_file(paths.manifest, manifest_text(manifest, /*complete=*/false));
  built.writer->commit();
  write_file(paths.manifest, manifest_text(manifest, /*complete=*/true));
}

void warn_of(const std::vector<std::string>& sources, const Built& built,
             const TokenManifest& manifest) {
  if (manifest.invalid_utf8 > 0)
    log_warning(names(sources) + ": " + count_text(manifest.invalid_utf8) +
                " invalid UTF-8 sequence" + (manifest.invalid_utf8 == 1 ? "" : "s") +
                ", kept as bytes");
  if (manifest.skipped_lines > 0)
    log_warning(names(sources) + ": " + count_text(manifest.skipped_lines) +
                (manifest.skipped_lines == 1 ? " bad line was" : " bad lines were") +
                " skipped, the first: " + built.first_skipped);
}

OpenTexts open_texts(const std::vector<std::string>& sources) {
  if (sources.empty()) throw DataError("data", "expected one or more text files, got none");
  OpenTexts texts;
  for (const auto& source : sources) texts.push_back(open_text(source));
  return texts;
}

std::filesystem::path sets_folder(const DataConfig& config,
                                  const std::filesystem::path& default_folder) {
  return config.cache.empty() ? default_folder : std::filesystem::path(config.cache);
}

}  // namespace

TokenManifest build_tokens(const std::vector<std::string>& sources, const DataConfig& config,
                           const Tokenizer& tokenizer, const std::filesystem::path& prefix,
                           std::int64_t threads, bool quiet, TextPart part) {
  const TokenFilePaths paths(prefix);
  const MadeDirectories folder(paths.prefix.parent_path());
  const auto lock = FileLock::of_file(paths.prefix);
  const auto texts = open_texts(sources);
  auto manifest = describe(texts, config, tokenizer, part);
  if (open_reusable(paths.prefix, manifest)) return manifest;
  refuse_foreign(paths);
  auto built = tokenize_all(sources, config, tokenizer, paths.prefix, thread_count(threads), quiet,
                            part, manifest);
  put_in_place(built, paths, manifest);
  warn_of(sources, built, manifest);
  return manifest;
}

TokenSets build_token_sets(const DataConfig& config, const Tokenizer& tokenizer,
                           const std::filesystem::path& default_folder, std::int64_t threads,
                           bool quiet, const TokenSetsCheck& check) {
  if (config.train.empty())
    throw ConfigError("data.train", "expected one or more text files, got none");
  if (config.valid.empty() && config.valid_fraction <= 0)
    throw ConfigError(
        "data.valid_fraction",
        "must be above 0 when data.valid is empty; otherwise there is nothing to validate on");
  threads = thread_count(threads);
  const auto folder = sets_folder(config, default_folder);
  TokenSets sets{folder / "train", folder / "valid", {}, {}, nullptr, nullptr};
  // These outlive what is written there.
  std::optional<MadeDirectories> made;
  std::vector<FileLock> locks;
  struct Part {
    const std::vector<std::string>& sources;
    TextPart part;
    TokenFilePaths paths;
    TokenManifest& manifest;
    std::unique_ptr<const TokenFile>& tokens;
    OpenTexts texts;
    Built built;
  };
  const bool split = config.valid.empty();
  Part parts[] = {{config.train,
                   training_part(config),
                   TokenFilePaths(sets.train),
                   sets.train_manifest,
                   sets.train_tokens,
                   open_texts(config.train),
                   {}},
                  {split ? config.train : config.valid,
                   split ? TextPart::kValid : TextPart::kAll,
                   TokenFilePaths(sets.valid),
                   sets.valid_manifest,
                   sets.valid_tokens,
                   open_texts(split ? config.train : config.valid),
                   {}}};
  const auto all_reusable = [&] {
    for (auto& part : parts) part.tokens = open_reusable(part.paths.prefix, part.manifest);
    return parts[0].tokens != nullptr && parts[1].tokens != nullptr;
  };
  for (auto& part : parts) part.manifest = describe(part.texts, config, tokenizer, part.part);
  if (all_reusable()) {  // no lock: many runs may share one cache
    if (check) check(sets);
    return sets;
  }

  made.emplace(folder);
  for (const auto& part : parts) locks.push_back(FileLock::of_file(part.paths.prefix));
  all_reusable();  // as another process may have left it in the meantime
  for (auto& part : parts) {
    if (part.tokens != nullptr) continue;
    refuse_foreign(part.paths);
    part.built = tokenize_all(part.sources, config, tokenizer, part.paths.prefix, threads, quiet,
                              part.part, part.manifest);
  }
  if (check) check(sets);
  for (auto& part : parts) {
    if (part.tokens != nullptr) continue;
    put_in_place(part.built, part.paths, part.manifest);
    warn_of(part.sources, part.built, part.manifest);
    part.tokens = std::make_unique<const TokenFile>(part.paths.prefix);
  }
  return sets;
}

void refuse_while_built(const DataConfig& config, const std::filesystem::path& default_folder) {
  const auto folder = sets_folder(config, default_folder);
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) return;
  for (const char* name : {"train", "valid"}) {
    const auto file = folder / name;
    // A cache that is only read need not be writable.
    if (std::filesystem::exists(link_target(file).string() + ".lock", ignored))
      FileLock::of_file(file);
  }
}

std::vector<std::string> read_pieces(const std::vector<std::string>& sources,
                                     const DataConfig& config, TextPart part,
                                     std::int64_t max_bytes) {
  if (sources.empty()) throw DataError("data", "expected one or more text files, got none");
  std::vector<std::string> pieces;
  std::string storage;
  PartReader reader(sources, config, part);
  const std::int64_t every =
      std::max<std::int64_t>(1, (reader.total_bytes() + max_bytes - 1) / max_bytes);
  std::int64_t number = 0;
  for (Document document; reader.next(document);) {
    throw_if_interrupted(names(sources));
    std::string_view text;
    try {
      text = document_text(document, sources, config.text_field, storage);
    } catch (const DataError&) {
      if (!config.skip_bad_lines) throw;
    }
    while (!text.empty()) {
      const std::size_t length = piece_length(text);
      if (number++ % every == 0) pieces.emplace_back(text.substr(0, length));
      text.remove_prefix(length);
    }
  }
  if (pieces.empty()) throw DataError(names(sources), "holds no text");
  return pieces;
}

}  // namespace rwkvx
