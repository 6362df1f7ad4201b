#include "rwkvx/data/corpus.h"

#include <algorithm>
#include <csignal>
#include <exception>
#include <nlohmann/json.hpp>
#include <optional>

#include "documents.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/lock.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/utf8.h"
#include "rwkvx/base/workers.h"

namespace rwkvx {
namespace {

// Changes whenever the same text would give other tokens than before, so that old files are
// rebuilt.
constexpr int kFormat = 1;
// In place of the hash in the manifest of a pair that is being put in place.
constexpr const char* kUnfinished = "unfinished";
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
  std::string skipped;  // why there is nothing in it, where its line was left out
};

void tokenise(Work& work, const std::vector<std::string>& sources, const DataConfig& config,
              const Tokenizer& tokenizer) {
  std::string storage;
  std::string_view text;
  try {
    text = document_text(work.document, sources, config.text_field, storage);
  } catch (const DataError& error) {
    if (!config.skip_bad_lines) throw;
    work.skipped = error.what();
    return;
  }
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

// A signal, or nobody who reads the messages any more, ends the work.
bool asked_to_stop(bool quiet) {
  if (!quiet && messages_closed()) interrupt_by(SIGPIPE);
  return interrupted();
}

// Does all of `batch`; throws what the first piece that failed threw, whichever thread met it, and
// Interrupted, between two pieces, where a signal came.
template <class Do>
void in_parallel(std::vector<Work>& batch, std::int64_t threads, const std::string& what,
                 const Do& work) {
  const auto count = std::min(threads, static_cast<std::int64_t>(batch.size()));
  Workers workers(count, [&]() -> Workers::Work {
    return [&](std::size_t i) {
      if (!interrupted()) work(batch[i]);
    };
  });
  for (std::size_t i = 0; i < batch.size(); ++i) workers.give(i);
  std::exception_ptr failure;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    try {
      workers.wait(i);
    } catch (...) {
      if (!failure) failure = std::current_exception();
    }
  }
  throw_if_interrupted(what);
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
      Work work{document_, true, {}, 0, 0, {}};
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
  if (manifest.skip_bad_lines) key["skip_bad_lines"] = true;
  for (std::size_t i = 0; i < manifest.sources.size(); ++i) {
    auto& row = key["sources"].emplace_back(
        nlohmann::json{manifest.sources[i].hash, texts[i]->json_lines()});
    // Said only where it is so: files that older programs read alike keep their tokens.
    if (texts[i]->compressed()) row.push_back("compressed");
    if (texts[i]->marked()) row.push_back("byte order mark");
  }
  return hash_bytes(key.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

// `complete` is false while the pair is put in place, so that whoever finds it knows that it is
// ours and of no use.
std::string manifest_text(const TokenManifest& manifest, bool complete) {
  auto sources = nlohmann::ordered_json::array();
  for (const auto& source : manifest.sources)
    sources.push_back({{"path", source.path}, {"bytes", source.bytes}, {"hash", source.hash}});
  const nlohmann::ordered_json json{{"hash", complete ? manifest.hash : kUnfinished},
                                    {"sources", sources},
                                    {"tokenizer",
                                     {{"kind", manifest.tokenizer_kind},
                                      {"hash", manifest.tokenizer_hash},
                                      {"vocab_size", manifest.vocab_size}}},
                                    {"settings",
                                     {{"separator", manifest.separator},
                                      {"text_field", manifest.text_field},
                                      {"part", manifest.part},
                                      {"valid_fraction", manifest.valid_fraction},
                                      {"skip_bad_lines", manifest.skip_bad_lines}}},
                                    {"documents", manifest.documents},
                                    {"tokens", manifest.tokens},
                                    {"bytes", manifest.bytes},
                                    {"invalid_utf8", manifest.invalid_utf8},
                                    {"skipped_lines", manifest.skipped_lines}};
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

// Opens the pair at `prefix` where it holds the tokens that `wanted` describes, and takes over the
// counts; nullptr where it does not.
std::unique_ptr<const TokenFile> open_reusable(const std::filesystem::path& prefix,
                                               TokenManifest& wanted) {
  try {
    const TokenManifest found = read_manifest(prefix);
    if (found.hash != wanted.hash) return nullptr;
    auto tokens = std::make_unique<const TokenFile>(prefix);
    if (tokens->size() != found.tokens || tokens->documents() != found.documents) return nullptr;
    // Another process may have put other files in place between the two looks; it would have
    // changed the manifest first.
    if (read_manifest(prefix).hash != wanted.hash) return nullptr;
    wanted.documents = found.documents;
    wanted.tokens = found.tokens;
    wanted.bytes = found.bytes;
    wanted.invalid_utf8 = found.invalid_utf8;
    wanted.skipped_lines = found.skipped_lines;
    wanted.reused = true;
    return tokens;
  } catch (const Error&) {
    return nullptr;  // missing, damaged or of another program
  }
}

// Throws FileError where files of these names are not known to be ours.
void refuse_foreign(const TokenFilePaths& paths) {
  const auto there = [](const std::filesystem::path& path) {
    std::error_code ignored;
    return std::filesystem::exists(std::filesystem::symlink_status(path, ignored));
  };
  const std::string remedy = ", so it is not replaced; move it or choose another name";
  if (!there(paths.manifest)) {
    for (const auto& path : {paths.tokens, paths.index})
      if (there(path))
        throw FileError(path.string(), "already exists without the manifest " +
                                           paths.manifest.filename().string() +
                                           " that rwkvx writes beside it" + remedy);
    return;
  }
  TokenManifest manifest;
  try {
    manifest = read_manifest(paths.prefix);
  } catch (const DataError&) {
    throw FileError(paths.manifest.string(),
                    "already exists and is not the manifest of a token file" + remedy);
  }
  if (manifest.unfinished) return;
  // A damaged pair is ours; one that is whole and holds something else is another program's.
  std::int64_t tokens = 0, documents = 0;
  try {
    const TokenFile found(paths.prefix);
    tokens = found.size();
    documents = found.documents();
  } catch (const Error&) {
    return;
  }
  if (tokens != manifest.tokens || documents != manifest.documents)
    throw FileError(paths.tokens.string(),
                    "holds " + std::to_string(tokens) + " tokens in " + std::to_string(documents) +
                        " documents, but its manifest " + paths.manifest.filename().string() +
                        " says " + std::to_string(manifest.tokens) + " in " +
                        std::to_string(manifest.documents) + ": it is another program's" + remedy);
}

// A token file that was built and is not yet seen.
struct Built {
  std::unique_ptr<TokenFileWriter> writer;
  std::string first_skipped;  // the message about it
};

Built tokenise_all(const std::vector<std::string>& sources, const DataConfig& config,
                   const Tokenizer& tokenizer, const std::filesystem::path& prefix,
                   std::int64_t threads, bool quiet, TextPart part, TokenManifest& manifest) {
  PartReader reader(sources, config, part);
  BatchReader batches(reader);
  Built built{std::make_unique<TokenFileWriter>(prefix, tokenizer.vocab_size()), {}};
  auto& writer = *built.writer;
  const std::string what = "tokenising " + names(sources);
  Progress progress(what, reader.total_bytes(), quiet);
  std::int64_t read = 0;
  bool open = false;  // whether the document at hand has text so far
  for (;;) {
    auto batch = batches.next(kBatchBytes * static_cast<std::size_t>(threads));
    if (batch.empty()) break;
    in_parallel(batch, threads, prefix.string(),
                [&](Work& work) { tokenise(work, sources, config, tokenizer); });
    for (const Work& work : batch) {
      writer.add(work.ids);
      open = open || !work.ids.empty();
      manifest.bytes += work.bytes;
      manifest.invalid_utf8 += work.invalid;
      if (!work.skipped.empty() && manifest.skipped_lines++ == 0)
        built.first_skipped = work.skipped;
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
    if (asked_to_stop(quiet)) throw_if_interrupted(prefix.string());
  }
  progress.finish();
  manifest.documents = writer.documents();
  manifest.tokens = writer.tokens();
  if (manifest.documents == 0)
    throw DataError(names(sources),
                    (part == TextPart::kAll ? "holds no text"
                                            : "is too short to be split: its " + manifest.part +
                                                  " part holds no text") +
                        (built.first_skipped.empty()
                             ? ""
                             : "; its lines were left out, the first: " + built.first_skipped));
  return built;
}

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
                " sequences are not valid UTF-8; their bytes are kept as they are");
  if (manifest.skipped_lines > 0)
    log_warning(names(sources) + ": " + count_text(manifest.skipped_lines) +
                " lines could not be read and were left out, the first: " + built.first_skipped);
}

// Hashes a source and gives way to signals.
TokenManifest::Source describe_source(const TextFile& text) {
  constexpr std::size_t kPiece = 4 << 20;
  const MappedFile file(text.source());
  Hasher hasher;
  for (std::size_t at = 0; at < file.text().size(); at += kPiece) {
    throw_if_interrupted(text.name());
    hasher.add(file.text().substr(at, kPiece));
    file.drop(at, kPiece);
  }
  file.check();
  return {text.name(), static_cast<std::int64_t>(file.bytes().size()), hasher.hex()};
}

// A pipe's copy is kept as long as one of these.
using OpenTexts = std::vector<std::shared_ptr<const TextFile>>;

OpenTexts open_texts(const std::vector<std::string>& sources) {
  if (sources.empty()) throw DataError("data", "no text file is named");
  OpenTexts texts;
  for (const auto& source : sources) texts.push_back(open_text(source));
  return texts;
}

// What tokens of these sources, settings and tokenizer would be called.
TokenManifest describe(const OpenTexts& texts, const DataConfig& config, const Tokenizer& tokenizer,
                       TextPart part) {
  TokenManifest manifest;
  for (const auto& text : texts) manifest.sources.push_back(describe_source(*text));
  manifest.tokenizer_kind = tokenizer.kind();
  manifest.tokenizer_hash = tokenizer.hash();
  manifest.vocab_size = tokenizer.vocab_size();
  manifest.separator = config.separator;
  manifest.text_field = config.text_field;
  manifest.skip_bad_lines = config.skip_bad_lines;
  manifest.part = part_name(part);
  manifest.valid_fraction = part == TextPart::kAll ? 0 : config.valid_fraction;
  manifest.hash = manifest_hash(manifest, texts);
  return manifest;
}

std::filesystem::path sets_folder(const DataConfig& config,
                                  const std::filesystem::path& default_folder) {
  return config.cache.empty() ? default_folder : std::filesystem::path(config.cache);
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
    manifest.unfinished = manifest.hash == kUnfinished;
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
    manifest.skip_bad_lines = settings.has("skip_bad_lines") && settings.flag("skip_bad_lines");
    if (object.has("skipped_lines")) manifest.skipped_lines = object.integer("skipped_lines");
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
  const MadeDirectories folder(paths.prefix.parent_path());
  const auto lock = FileLock::of_file(paths.prefix);
  const auto texts = open_texts(sources);
  auto manifest = describe(texts, config, tokenizer, part);
  if (open_reusable(paths.prefix, manifest)) return manifest;
  refuse_foreign(paths);
  auto built = tokenise_all(sources, config, tokenizer, paths.prefix, thread_count(threads), quiet,
                            part, manifest);
  put_in_place(built, paths, manifest);
  warn_of(sources, built, manifest);
  return manifest;
}

TokenSets build_token_sets(const DataConfig& config, const Tokenizer& tokenizer,
                           const std::filesystem::path& default_folder, std::int64_t threads,
                           bool quiet, const TokenSetsCheck& check) {
  if (config.train.empty()) throw ConfigError("data.train", "wanted at least one text file");
  if (config.valid.empty() && config.valid_fraction <= 0)
    throw ConfigError(
        "data.valid_fraction",
        "must be above 0 where data.valid is empty, or there is nothing to validate on");
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
    part.built = tokenise_all(part.sources, config, tokenizer, part.paths.prefix, threads, quiet,
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

void check_lines(const std::vector<std::string>& sources, const DataConfig& config,
                 std::int64_t threads) {
  if (config.skip_bad_lines) return;
  std::vector<std::string> lines;
  OpenTexts texts;
  for (const auto& source : sources) {
    texts.push_back(open_text(source));
    if (texts.back()->json_lines()) lines.push_back(source);
  }
  threads = thread_count(threads);
  PartReader reader(lines, config, TextPart::kAll);
  BatchReader batches(reader);
  for (;;) {
    auto batch = batches.next(kBatchBytes * static_cast<std::size_t>(threads));
    if (batch.empty()) return;
    in_parallel(batch, threads, names(lines), [&](Work& work) {
      std::string storage;
      document_text(work.document, lines, config.text_field, storage);
    });
  }
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
