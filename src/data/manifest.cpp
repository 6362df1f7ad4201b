#include "rwkvx/data/manifest.h"

#include <nlohmann/json.hpp>

#include "data/manifest_store.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/json_file.h"

namespace rwkvx {
namespace {

// Changes whenever the same text would give other tokens than before, so that old files are
// rebuilt.
constexpr int kFormat = 1;
// In place of the hash in the manifest of a pair that is being put in place.
constexpr const char* kUnfinished = "unfinished";

std::string part_name(TextPart part) {
  return part == TextPart::kTrain ? "train" : part == TextPart::kValid ? "valid" : "all";
}

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

}  // namespace

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

}  // namespace rwkvx
