// The tokens of a training: text that is tokenized, token files as they are, mixtures of both.
#include <nlohmann/json.hpp>
#include <optional>

#include "data/manifest_store.h"
#include "data/ready_tokens.h"
#include "data/sources.h"
#include "data/tokenize.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/lock.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/workers.h"
#include "rwkvx/data/corpus.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

fs::path sets_folder(const DataConfig& config, const fs::path& default_folder) {
  return config.cache.empty() ? default_folder : fs::path(config.cache);
}

// Text that becomes a token file.
struct TextBuild {
  std::vector<std::string> sources;
  TextPart part;
  TokenFilePaths paths;
  OpenTexts texts;
  TokenManifest manifest;
  std::shared_ptr<const TokenFile> tokens;  // null until it is known to be there
  Built built;
};

// What one entry of a mixture, or all of them where there are no weights, trains or validates on.
struct Side {
  std::optional<std::size_t> build;  // which of the texts, if it has any
  ReadyTokens ready;
  std::int64_t begin = 0, end = 0;  // of the ready tokens
};
struct Entry {
  double weight = 1;
  Side train, valid;
};

class SetsBuilder {
 public:
  SetsBuilder(const DataConfig& config, const Tokenizer& tokenizer, const fs::path& folder,
              std::int64_t threads, bool quiet)
      : config_(config),
        tokenizer_(tokenizer),
        folder_(folder),
        threads_(thread_count(threads)),
        quiet_(quiet) {
    if (config.weights.empty()) {
      add_entry(config.train, 1, "");
    } else {
      for (std::size_t i = 0; i < config.train.size(); ++i)
        add_entry({config.train[i]}, config.weights[i],
                  config.train.size() == 1 ? "" : "-" + std::to_string(i + 1));
    }
    if (!config.valid.empty()) {
      const auto sources = find_sources(config.valid, "data.valid");
      auto& valid = entries_.front().valid;
      valid.build = add_build(sources.texts, TextPart::kAll, "valid");
      valid.ready = open_ready(sources.tokens, tokenizer_);
      valid.end = valid.ready.size;
    }
    for (auto& one : builds_) one.manifest = describe(one.texts, config_, tokenizer_, one.part);
  }

  TokenSets build(const TokenSetsCheck& check) {
    TokenSets sets;
    const auto checked = [&] {
      sets.train_manifest = manifest_of(&Entry::train);
      sets.valid_manifest = manifest_of(&Entry::valid);
      if (check) check(sets);
    };
    if (all_reusable()) {  // no lock: many runs may share one cache
      checked();
    } else {
      made_.emplace(folder_);
      for (const auto& one : builds_) locks_.push_back(FileLock::of_file(one.paths.prefix));
      all_reusable();  // as another process may have left it in the meantime
      tokenize_missing();
      checked();
      put_missing_in_place();
    }
    chain(sets);
    return sets;
  }

 private:
  void add_entry(const std::vector<std::string>& names, double weight, const std::string& number) {
    const bool split = config_.valid.empty();
    const auto sources = find_sources(names, "data.train");
    auto& entry = entries_.emplace_back();
    entry.weight = weight;
    entry.train.build = add_build(sources.texts, training_part(config_), "train" + number);
    if (split) entry.valid.build = add_build(sources.texts, TextPart::kValid, "valid" + number);
    entry.train.ready = open_ready(sources.tokens, tokenizer_);
    entry.train.end = entry.train.ready.size;
    if (split) {
      entry.valid.ready = entry.train.ready;
      entry.valid.end = entry.train.end;
      entry.train.end = entry.valid.begin = entry.train.ready.train_share(config_.valid_fraction);
    }
  }

  std::optional<std::size_t> add_build(const std::vector<std::string>& sources, TextPart part,
                                       const std::string& name) {
    if (sources.empty()) return std::nullopt;
    builds_.push_back(
        {sources, part, TokenFilePaths(folder_ / name), open_texts(sources), {}, {}, {}});
    return builds_.size() - 1;
  }

  bool all_reusable() {
    bool all = true;
    for (auto& one : builds_) {
      one.tokens = open_reusable(one.paths.prefix, one.manifest);
      all = all && one.tokens != nullptr;
    }
    return all;
  }

  void tokenize_missing() {
    for (auto& one : builds_) {
      if (one.tokens != nullptr) continue;
      refuse_foreign(one.paths);
      one.built = tokenize_all(one.sources, config_, tokenizer_, one.paths.prefix, threads_, quiet_,
                               one.part, one.manifest);
    }
  }

  void put_missing_in_place() {
    for (auto& one : builds_) {
      if (one.tokens != nullptr) continue;
      put_in_place(one.built, one.paths, one.manifest);
      warn_of(one.sources, one.built, one.manifest);
      one.tokens = std::make_shared<const TokenFile>(one.paths.prefix);
    }
  }

  // Of one text that lies in one file, its manifest; else the sum of what there is.
  TokenManifest manifest_of(Side Entry::*side) const {
    const auto& first = entries_.front().*side;
    if (entries_.size() == 1 && first.build && first.ready.size == 0)
      return builds_[*first.build].manifest;
    TokenManifest sum;
    Hasher hasher;
    for (const auto& entry : entries_) {
      const auto& one = entry.*side;
      hasher.add(nlohmann::json{entry.weight, one.ready.hash, one.begin, one.end}.dump());
      sum.tokens += one.end - one.begin;
      if (!one.build) continue;
      const auto& text = builds_[*one.build].manifest;
      hasher.add(text.hash);
      sum.tokens += text.tokens;
      sum.documents += text.documents;
      sum.bytes += text.bytes;
      sum.invalid_utf8 += text.invalid_utf8;
      sum.skipped_lines += text.skipped_lines;
    }
    sum.hash = hasher.hex();
    return sum;
  }

  std::vector<TokenChain::Part> parts_of(const Side& side) const {
    std::vector<TokenChain::Part> parts;
    if (side.build) {
      const auto& file = builds_[*side.build].tokens;
      parts.push_back({file, 0, file->size()});
    }
    side.ready.add_range(side.begin, side.end, parts);
    return parts;
  }

  void chain(TokenSets& sets) const {
    std::vector<TokenChain::Part> train, valid;
    for (const auto& entry : entries_) {
      auto own = parts_of(entry.train);
      if (own.empty()) throw DataError("data.train", "an entry holds no tokens to train on");
      train.insert(train.end(), own.begin(), own.end());
      const auto held_out = parts_of(entry.valid);
      valid.insert(valid.end(), held_out.begin(), held_out.end());
      sets.mixture_parts.push_back(std::make_shared<const TokenChain>(std::move(own)));
      sets.mixture.push_back({sets.mixture_parts.back().get(), entry.weight});
    }
    if (valid.empty())
      throw DataError("data.valid", "there are no tokens to validate on; name a text here");
    sets.train_tokens = std::make_shared<const TokenChain>(std::move(train));
    sets.valid_tokens = std::make_shared<const TokenChain>(std::move(valid));
  }

  const DataConfig& config_;
  const Tokenizer& tokenizer_;
  const fs::path folder_;
  const std::int64_t threads_;
  const bool quiet_;
  std::vector<Entry> entries_;
  // These outlive what is written there.
  std::optional<MadeDirectories> made_;
  std::vector<FileLock> locks_;
  std::vector<TextBuild> builds_;
};

}  // namespace

TokenSets build_token_sets(const DataConfig& config, const Tokenizer& tokenizer,
                           const fs::path& default_folder, std::int64_t threads, bool quiet,
                           const TokenSetsCheck& check) {
  if (config.train.empty())
    throw ConfigError("data.train", "names no text; expected files, directories or patterns");
  if (config.valid.empty() && config.valid_fraction <= 0)
    throw ConfigError(
        "data.valid_fraction",
        "must be above 0 when data.valid is empty; otherwise there is nothing to validate on");
  SetsBuilder builder(config, tokenizer, sets_folder(config, default_folder), threads, quiet);
  return builder.build(check);
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

}  // namespace rwkvx
