#include "rwkvx/data/corpus.h"

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "data/documents.h"
#include "data/manifest_store.h"
#include "data/sources.h"
#include "data/tokenize.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/json_file.h"
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
  OpenTexts texts;
  for (const auto& source : sources) texts.push_back(open_text(source));
  return texts;
}

std::filesystem::path sets_folder(const DataConfig& config,
                                  const std::filesystem::path& default_folder) {
  return config.cache.empty() ? default_folder : std::filesystem::path(config.cache);
}

}  // namespace

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

namespace {

// Token files of other places that a training reads as they are.
struct ReadyTokens {
  std::vector<std::shared_ptr<const TokenFile>> files;
  std::int64_t size = 0;
  std::string hash;  // over what they are called, how long they are and their indexes
};

ReadyTokens open_ready(const std::vector<std::filesystem::path>& prefixes,
                       const Tokenizer& tokenizer) {
  ReadyTokens ready;
  Hasher hasher;
  for (const auto& prefix : prefixes) {
    const TokenFilePaths paths(prefix);
    std::error_code ignored;
    if (std::filesystem::exists(paths.manifest, ignored)) {
      const auto json = parse_json_or_null(read_file(paths.manifest));
      // One of ours, or else a file of somebody else that happens to lie there.
      if (json.is_object() && json.contains("tokenizer") && json.contains("documents")) {
        const auto manifest = read_manifest(prefix);
        if (manifest.unfinished)
          throw DataError(paths.manifest.string(),
                          "says that the token file is unfinished; build it again");
        if (manifest.tokenizer_hash != tokenizer.hash())
          throw DataError(paths.tokens.string(), "was built with another tokenizer, " +
                                                     manifest.tokenizer_kind + " of " +
                                                     std::to_string(manifest.vocab_size) + " ids");
      }
    }
    auto file = std::make_shared<const TokenFile>(prefix);
    hasher.add(hash_file(paths.index) + std::to_string(file->size()));
    ready.size += file->size();
    if (file->size() > 0) ready.files.push_back(std::move(file));
  }
  ready.hash = hasher.hex();
  return ready;
}

// How many of the tokens are trained on, where the rest is validated on. At the end of a document
// if that changes the validation's share by less than half of it.
std::int64_t train_share(const ReadyTokens& ready, double valid_fraction) {
  const auto wanted = std::clamp<std::int64_t>(
      static_cast<std::int64_t>(static_cast<double>(ready.size) * (1 - valid_fraction)), 0,
      ready.size);
  std::int64_t before = 0;
  for (const auto& file : ready.files) {
    if (before + file->size() <= wanted) {
      before += file->size();
      continue;
    }
    std::int64_t low = 0, high = file->documents();  // the last document that begins before
    while (high - low > 1) {
      const auto middle = (low + high) / 2;
      (before + file->document(middle).begin <= wanted ? low : high) = middle;
    }
    if (high == low) break;
    const auto [begin, end] = file->document(low);
    const auto nearest = before + (before + end - wanted < wanted - before - begin ? end : begin);
    const bool near = 2 * std::abs(nearest - wanted) < ready.size - wanted;
    return near && nearest > 0 && nearest < ready.size ? nearest : wanted;
  }
  return wanted;
}

// Appends tokens [begin, end) of all files.
void add_range(const ReadyTokens& ready, std::int64_t begin, std::int64_t end,
               std::vector<TokenChain::Part>& parts) {
  std::int64_t start = 0;
  for (const auto& file : ready.files) {
    const auto first = std::max(begin - start, std::int64_t{0}),
               last = std::min(end - start, file->size());
    if (first < last) parts.push_back({file, first, last});
    start += file->size();
  }
}

// Text that becomes a token file of the training.
struct TextBuild {
  const std::vector<std::string>* sources;
  TextPart part;
  TokenFilePaths paths;
  OpenTexts texts;
  TokenManifest manifest;
  std::shared_ptr<const TokenFile> tokens;
  Built built;
};

// One text, or one part of a mixture.
struct Entry {
  double weight = 1;
  Sources train, valid;
  ReadyTokens ready_train, ready_valid;
  std::ptrdiff_t train_build = -1, valid_build = -1;  // numbers among the builds; -1: no text
};

std::vector<Entry> find_entries(const DataConfig& config, const Tokenizer& tokenizer) {
  std::vector<Entry> entries;
  if (config.weights.empty()) {
    entries.emplace_back().train = find_sources(config.train, "data.train");
  } else {
    for (std::size_t i = 0; i < config.train.size(); ++i) {
      auto& entry = entries.emplace_back();
      entry.weight = config.weights[i];
      entry.train = find_sources({config.train[i]}, "data.train");
    }
  }
  if (!config.valid.empty()) entries.front().valid = find_sources(config.valid, "data.valid");
  for (auto& entry : entries) {
    entry.ready_train = open_ready(entry.train.tokens, tokenizer);
    entry.ready_valid = open_ready(entry.valid.tokens, tokenizer);
  }
  return entries;
}

// The manifest of tokens that do not lie in one file: the sum of those that do.
TokenManifest joined(const std::vector<Entry>& entries, const std::vector<TextBuild>& builds,
                     bool valid, std::int64_t tokens) {
  TokenManifest sum;
  Hasher hasher;
  for (const auto& entry : entries) {
    const auto number = valid ? entry.valid_build : entry.train_build;
    hasher.add(std::to_string(entry.weight) + entry.ready_train.hash + entry.ready_valid.hash);
    if (number < 0) continue;
    const auto& one = builds[static_cast<std::size_t>(number)].manifest;
    hasher.add(one.hash);
    sum.documents += one.documents;
    sum.bytes += one.bytes;
    sum.invalid_utf8 += one.invalid_utf8;
    sum.skipped_lines += one.skipped_lines;
  }
  sum.tokens = tokens;
  sum.hash = hasher.hex();
  return sum;
}

}  // namespace

TokenSets build_token_sets(const DataConfig& config, const Tokenizer& tokenizer,
                           const std::filesystem::path& default_folder, std::int64_t threads,
                           bool quiet, const TokenSetsCheck& check) {
  const bool split = config.valid.empty();
  if (split && config.valid_fraction <= 0)
    throw ConfigError(
        "data.valid_fraction",
        "must be above 0 when data.valid is empty; otherwise there is nothing to validate on");
  threads = thread_count(threads);
  const auto folder = sets_folder(config, default_folder);
  auto entries = find_entries(config, tokenizer);
  std::vector<TextBuild> builds;
  const auto add_build = [&](const std::vector<std::string>& sources, TextPart part,
                             const std::string& name) {
    if (sources.empty()) return std::ptrdiff_t{-1};
    builds.push_back(
        {&sources, part, TokenFilePaths(folder / name), open_texts(sources), {}, {}, {}});
    return static_cast<std::ptrdiff_t>(builds.size()) - 1;
  };
  for (std::size_t i = 0; i < entries.size(); ++i) {
    auto& entry = entries[i];
    const auto number = entries.size() == 1 ? "" : "-" + std::to_string(i + 1);
    entry.train_build = add_build(entry.train.texts, training_part(config), "train" + number);
    entry.valid_build = split ? add_build(entry.train.texts, TextPart::kValid, "valid" + number)
                              : add_build(entry.valid.texts, TextPart::kAll, "valid");
  }

  // These outlive what is written there.
  std::optional<MadeDirectories> made;
  std::vector<FileLock> locks;
  const auto all_reusable = [&] {
    bool all = true;
    for (auto& one : builds) {
      one.tokens = open_reusable(one.paths.prefix, one.manifest);
      all = all && one.tokens != nullptr;
    }
    return all;
  };
  for (auto& one : builds) one.manifest = describe(one.texts, config, tokenizer, one.part);

  TokenSets sets;
  const auto describe_sets = [&] {
    const auto describe_set = [&](bool valid, TokenManifest& manifest) {
      const bool one_file = entries.size() == 1 && builds.size() == 2 &&
                            entries[0].ready_train.size + entries[0].ready_valid.size == 0;
      if (one_file) {
        manifest = builds[valid ? 1 : 0].manifest;
        return;
      }
      std::int64_t tokens = 0;
      for (const auto& entry : entries) {
        const auto number = valid ? entry.valid_build : entry.train_build;
        if (number >= 0) tokens += builds[static_cast<std::size_t>(number)].manifest.tokens;
        const auto trained =
            split ? train_share(entry.ready_train, config.valid_fraction) : entry.ready_train.size;
        tokens += !valid  ? trained
                  : split ? entry.ready_train.size - trained
                          : entry.ready_valid.size;
      }
      manifest = joined(entries, builds, valid, tokens);
    };
    describe_set(false, sets.train_manifest);
    describe_set(true, sets.valid_manifest);
    if (check) check(sets);
  };
  if (all_reusable()) {  // no lock: many runs may share one cache
    describe_sets();
  } else {
    made.emplace(folder);
    for (const auto& one : builds) locks.push_back(FileLock::of_file(one.paths.prefix));
    all_reusable();  // as another process may have left it in the meantime
    for (auto& one : builds) {
      if (one.tokens != nullptr) continue;
      refuse_foreign(one.paths);
      one.built = tokenize_all(*one.sources, config, tokenizer, one.paths.prefix, threads, quiet,
                               one.part, one.manifest);
    }
    describe_sets();
    for (auto& one : builds) {
      if (one.tokens != nullptr) continue;
      put_in_place(one.built, one.paths, one.manifest);
      warn_of(*one.sources, one.built, one.manifest);
      one.tokens = std::make_shared<const TokenFile>(one.paths.prefix);
    }
  }

  std::vector<TokenChain::Part> train, valid;
  for (const auto& entry : entries) {
    std::vector<TokenChain::Part> own;
    const auto add_built = [&](std::ptrdiff_t number, std::vector<TokenChain::Part>& parts) {
      if (number < 0) return;
      const auto& file = builds[static_cast<std::size_t>(number)].tokens;
      parts.push_back({file, 0, file->size()});
    };
    add_built(entry.train_build, own);
    add_built(entry.valid_build, valid);
    const auto trained =
        split ? train_share(entry.ready_train, config.valid_fraction) : entry.ready_train.size;
    add_range(entry.ready_train, 0, trained, own);
    add_range(entry.ready_train, trained, entry.ready_train.size, valid);
    add_range(entry.ready_valid, 0, entry.ready_valid.size, valid);
    if (own.empty())
      throw DataError("data.train", "holds no tokens to train on" +
                                        (entry.train.tokens.empty()
                                             ? std::string()
                                             : ": " + entry.train.tokens.front().string()));
    train.insert(train.end(), own.begin(), own.end());
    sets.mixture_parts.push_back(std::make_shared<const TokenChain>(std::move(own)));
    sets.mixture.push_back({sets.mixture_parts.back().get(), entry.weight});
  }
  if (valid.empty())
    throw DataError("data", "has no tokens to validate on; name a text in data.valid");
  sets.train_tokens = std::make_shared<const TokenChain>(std::move(train));
  sets.valid_tokens = std::make_shared<const TokenChain>(std::move(valid));
  return sets;
}

void refuse_while_built(const DataConfig& config, const std::filesystem::path& default_folder) {
  const auto folder = sets_folder(config, default_folder);
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) return;
  std::vector<std::string> names{"train", "valid"};
  for (std::size_t i = 1; i <= config.weights.size(); ++i)
    for (const char* name : {"train-", "valid-"}) names.push_back(name + std::to_string(i));
  for (const auto& name : names) {
    const auto file = folder / name;
    // A cache that is only read need not be writable.
    if (std::filesystem::exists(link_target(file).string() + ".lock", ignored))
      FileLock::of_file(file);
  }
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
