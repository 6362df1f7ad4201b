#include "rwkvx/data/corpus.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "documents.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/text/utf8.h"

namespace rwkvx {
namespace {

// Changes whenever the same text would give other tokens than before, so that old files are
// rebuilt.
constexpr int kFormat = 1;
// Text handed to each thread between two writes.
constexpr std::size_t kBatchBytes = 4 << 20;

std::string part_name(TextPart part) {
  return part == TextPart::kTrain ? "train" : part == TextPart::kValid ? "valid" : "all";
}

// Sources as an error or a warning names them.
std::string names(const std::vector<std::string>& sources) {
  if (sources.empty()) return "data";
  if (sources.size() == 1) return sources.front();
  return sources.front() + " and " + std::to_string(sources.size() - 1) + " more";
}

// A piece of a document for one thread, and what the thread makes of it.
struct Work {
  Document document;
  bool ends_document = true;
  std::vector<TokenId> ids;
  std::int64_t bytes = 0, invalid = 0;
};

void tokenise(Work& work, const std::vector<std::string>& sources, const std::string& text_field,
              const Tokenizer& tokenizer) {
  std::string storage;
  std::string_view text = document_text(work.document, sources, text_field, storage);
  work.bytes = static_cast<std::int64_t>(text.size());
  work.invalid = count_invalid_utf8(text);
  // A text document comes cut into pieces already; one from a .jsonl line is cut here by the same
  // rule.
  while (!text.empty()) {
    const std::size_t length = piece_length(text);
    const auto ids = tokenizer.encode(text.substr(0, length));
    work.ids.insert(work.ids.end(), ids.begin(), ids.end());
    text.remove_prefix(length);
  }
}

// Does all of `batch`; throws what the first piece that failed threw, whichever thread met it.
template <class Do>
void in_parallel(std::vector<Work>& batch, std::int64_t threads, const Do& work) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::size_t failed = batch.size();
  std::exception_ptr failure;
  const auto run = [&] {
    for (std::size_t i = next++; i < batch.size(); i = next++) {
      try {
        work(batch[i]);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (i < failed) {
          failed = i;
          failure = std::current_exception();
        }
      }
    }
  };
  std::vector<std::thread> pool;
  const auto count = std::min(static_cast<std::size_t>(threads), batch.size());
  for (std::size_t i = 1; i < count; ++i) pool.emplace_back(run);
  run();
  for (auto& thread : pool) thread.join();
  if (failure) std::rethrow_exception(failure);
}

// Cuts the documents of a part into pieces and hands them out in batches.
class BatchReader {
 public:
  explicit BatchReader(PartReader& reader) : reader_(reader) {}
  // Pieces of about `bytes` together, none at the end.
  std::vector<Work> next(std::size_t bytes) {
    std::vector<Work> batch;
    for (std::size_t read = 0; read < bytes;) {
      if (document_.begin == document_.end && !reader_.next(document_)) break;
      Work work{document_, true, {}, 0, 0};
      if (document_.line == 0) {
        const auto rest = document_.bytes.substr(document_.begin, document_.end - document_.begin);
        work.document.end = document_.begin + piece_length(rest);
        work.ends_document = work.document.end == document_.end;
      }
      document_.begin = work.document.end;
      read += work.document.end - work.document.begin;
      batch.push_back(std::move(work));
    }
    return batch;
  }

 private:
  PartReader& reader_;
  Document document_;
};

// Names what the tokens follow from: contents and settings, not where the files lie.
std::string manifest_hash(const TokenManifest& manifest,
                          const std::vector<std::shared_ptr<const TextFile>>& texts) {
  auto key = nlohmann::json{{"format", kFormat},
                            {"tokenizer", manifest.tokenizer_hash},
                            {"separator", manifest.separator},
                            {"text_field", manifest.text_field},
                            {"part", manifest.part},
                            {"valid_fraction", manifest.valid_fraction},
                            {"sources", nlohmann::json::array()}};
  for (std::size_t i = 0; i < manifest.sources.size(); ++i) {
    auto& row = key["sources"].emplace_back(
        nlohmann::json{manifest.sources[i].hash, texts[i]->json_lines()});
    // Said only where it is so: files that older programs read alike keep their tokens.
    if (texts[i]->compressed()) row.push_back("compressed");
    if (texts[i]->marked()) row.push_back("byte order mark");
  }
  return hash_bytes(key.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

std::string manifest_text(const TokenManifest& manifest) {
  auto sources = nlohmann::ordered_json::array();
  for (const auto& source : manifest.sources)
    sources.push_back({{"path", source.path}, {"bytes", source.bytes}, {"hash", source.hash}});
  const nlohmann::ordered_json json{{"hash", manifest.hash},
                                    {"sources", sources},
                                    {"tokenizer",
                                     {{"kind", manifest.tokenizer_kind},
                                      {"hash", manifest.tokenizer_hash},
                                      {"vocab_size", manifest.vocab_size}}},
                                    {"settings",
                                     {{"separator", manifest.separator},
                                      {"text_field", manifest.text_field},
                                      {"part", manifest.part},
                                      {"valid_fraction", manifest.valid_fraction}}},
                                    {"documents", manifest.documents},
                                    {"tokens", manifest.tokens},
                                    {"bytes", manifest.bytes},
                                    {"invalid_utf8", manifest.invalid_utf8}};
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

// Whether `prefix` holds the tokens that `wanted` describes; takes over the counts if so.
bool reusable(const std::filesystem::path& prefix, TokenManifest& wanted) {
  try {
    const TokenManifest found = read_manifest(prefix);
    const TokenFile tokens(prefix);
    if (found.hash != wanted.hash || tokens.size() != found.tokens ||
        tokens.documents() != found.documents)
      return false;
    wanted.documents = found.documents;
    wanted.tokens = found.tokens;
    wanted.bytes = found.bytes;
    wanted.invalid_utf8 = found.invalid_utf8;
    wanted.reused = true;
    return true;
  } catch (const Error&) {
    return false;  // missing, damaged or of another program: built afresh
  }
}

void write_tokens(const std::vector<std::string>& sources, const DataConfig& config,
                  const Tokenizer& tokenizer, const std::filesystem::path& prefix,
                  std::int64_t threads, bool quiet, TextPart part, TokenManifest& manifest) {
  PartReader reader(sources, config, part);
  BatchReader batches(reader);
  TokenFileWriter writer(prefix, tokenizer.vocab_size());
  Progress progress("tokenising " + names(sources), reader.total_bytes(), quiet);
  std::int64_t read = 0;
  bool open = false;  // whether the document at hand has text so far
  for (;;) {
    auto batch = batches.next(kBatchBytes * static_cast<std::size_t>(threads));
    if (batch.empty()) break;
    in_parallel(batch, threads,
                [&](Work& work) { tokenise(work, sources, config.text_field, tokenizer); });
    for (const Work& work : batch) {
      writer.add(work.ids);
      open = open || !work.ids.empty();
      manifest.bytes += work.bytes;
      manifest.invalid_utf8 += work.invalid;
      if (work.ends_document && open) {
        writer.end_document(tokenizer.document_end());
        open = false;
      }
      read += static_cast<std::int64_t>(work.document.end - work.document.begin);
    }
    const Document& last = batch.back().document;
    const auto offset = static_cast<std::uint64_t>(last.bytes.data() - last.file->text().data());
    last.file->drop(0, offset + last.end);
    last.file->check();
    progress.update(read, count_text(writer.tokens()) + " tokens");
    if (interrupted())
      throw Error(prefix.string(), "tokenising was interrupted; start it again to build the file");
  }
  progress.finish();
  manifest.documents = writer.documents();
  manifest.tokens = writer.tokens();
  if (manifest.documents == 0)
    throw DataError(names(sources),
                    part == TextPart::kAll
                        ? "holds no text"
                        : "is too short to be split: its " + manifest.part + " part holds no text");
  writer.commit();
}

}  // namespace

TokenManifest read_manifest(const std::filesystem::path& prefix) {
  const TokenFilePaths paths(prefix);
  const std::string where = paths.manifest.string();
  TokenManifest manifest;
  try {
    const auto json = parse_foreign_json(read_file(paths.manifest), where);
    const JsonObject object(json, where);
    manifest.hash = object.text("hash");
    for (const auto& row : object.array("sources")) {
      const JsonObject source(row, where + ": sources");
      manifest.sources.push_back(
          {source.text("path"), source.integer("bytes"), source.text("hash")});
    }
    const auto tokenizer = object.object("tokenizer");
    manifest.tokenizer_kind = tokenizer.text("kind");
    manifest.tokenizer_hash = tokenizer.text("hash");
    manifest.vocab_size = tokenizer.integer("vocab_size");
    const auto settings = object.object("settings");
    manifest.separator = settings.text("separator");
    manifest.text_field = settings.text("text_field");
    manifest.part = settings.text("part");
    manifest.valid_fraction = settings.number("valid_fraction");
    manifest.documents = object.integer("documents");
    manifest.tokens = object.integer("tokens");
    manifest.bytes = object.integer("bytes");
    manifest.invalid_utf8 = object.integer("invalid_utf8");
  } catch (const DataError& error) {
    throw DataError("", std::string(error.what()) +
                            ", so it is not the manifest of a token file; build the data again");
  }
  return manifest;
}

TokenManifest build_tokens(const std::vector<std::string>& sources, const DataConfig& config,
                           const Tokenizer& tokenizer, const std::filesystem::path& prefix,
                           std::int64_t threads, bool quiet, TextPart part) {
  const TokenFilePaths paths(prefix);
  if (threads <= 0) threads = std::max(1u, std::thread::hardware_concurrency());
  if (sources.empty()) throw DataError("data", "no text file is named");
  TokenManifest manifest;
  std::vector<std::shared_ptr<const TextFile>> texts;  // a pipe's copy is kept until the end
  for (const auto& source : sources) {
    texts.push_back(open_text(source));
    const auto& path = texts.back()->source();
    manifest.sources.push_back({texts.back()->name(),
                                static_cast<std::int64_t>(std::filesystem::file_size(path)),
                                hash_file(path)});
  }
  manifest.tokenizer_kind = tokenizer.kind();
  manifest.tokenizer_hash = tokenizer.hash();
  manifest.vocab_size = tokenizer.vocab_size();
  manifest.separator = config.separator;
  manifest.text_field = config.text_field;
  manifest.part = part_name(part);
  manifest.valid_fraction = part == TextPart::kAll ? 0 : config.valid_fraction;
  manifest.hash = manifest_hash(manifest, texts);
  if (reusable(paths.prefix, manifest)) return manifest;

  std::error_code error;
  if (const auto folder = paths.prefix.parent_path(); !folder.empty())
    std::filesystem::create_directories(folder, error);
  if (error)
    throw FileError(paths.prefix.parent_path().string(),
                    "cannot make the folder: " + error.message());
  // Without a manifest a pair counts as unfinished, so it goes first and comes last.
  std::filesystem::remove(paths.manifest, error);
  write_tokens(sources, config, tokenizer, paths.prefix, threads, quiet, part, manifest);
  write_file(paths.manifest, manifest_text(manifest));
  if (manifest.invalid_utf8 > 0)
    log_warning(names(sources) + ": " + count_text(manifest.invalid_utf8) +
                " sequences are not valid UTF-8; their bytes are kept as they are");
  return manifest;
}

TokenSets build_token_sets(const DataConfig& config, const Tokenizer& tokenizer,
                           const std::filesystem::path& default_folder, std::int64_t threads,
                           bool quiet) {
  if (config.train.empty()) throw ConfigError("data.train", "wanted at least one text file");
  if (config.valid.empty() && config.valid_fraction <= 0)
    throw ConfigError(
        "data.valid_fraction",
        "must be above 0 where data.valid is empty, or there is nothing to validate on");
  const std::filesystem::path folder =
      config.cache.empty() ? default_folder : std::filesystem::path(config.cache);
  TokenSets sets{folder / "train", folder / "valid", {}, {}};
  const bool split = config.valid.empty();
  sets.train_manifest = build_tokens(config.train, config, tokenizer, sets.train, threads, quiet,
                                     training_part(config));
  sets.valid_manifest =
      build_tokens(split ? config.train : config.valid, config, tokenizer, sets.valid, threads,
                   quiet, split ? TextPart::kValid : TextPart::kAll);
  return sets;
}

std::vector<std::string> read_pieces(const std::vector<std::string>& sources,
                                     const DataConfig& config, TextPart part,
                                     std::int64_t max_bytes) {
  if (sources.empty()) throw DataError("data", "no text file is named");
  std::vector<std::string> pieces;
  std::string storage;
  PartReader reader(sources, config, part);
  const std::int64_t every =
      std::max<std::int64_t>(1, (reader.total_bytes() + max_bytes - 1) / max_bytes);
  std::int64_t number = 0;
  for (Document document; reader.next(document);) {
    std::string_view text = document_text(document, sources, config.text_field, storage);
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
