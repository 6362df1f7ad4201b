#include "rwkvx/data/corpus.h"

#include <algorithm>

#include "data/documents.h"
#include "data/manifest_store.h"
#include "data/sources.h"
#include "data/tokenize.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/lock.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/workers.h"

namespace rwkvx {

TokenManifest build_tokens(const std::vector<std::string>& entries, const DataConfig& config,
                           const Tokenizer& tokenizer, const std::filesystem::path& prefix,
                           std::int64_t threads, bool quiet, TextPart part) {
  const auto sources = find_texts(entries, "data");
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

std::vector<std::string> read_pieces(const std::vector<std::string>& entries,
                                     const DataConfig& config, TextPart part,
                                     std::int64_t max_bytes) {
  const auto sources = find_texts(entries, "data");
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
