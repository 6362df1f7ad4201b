#include "data/ready_tokens.h"

#include <algorithm>
#include <cstdlib>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/data/manifest.h"

namespace rwkvx {
namespace {

void check_manifest(const TokenFilePaths& paths, const Tokenizer& tokenizer) {
  std::error_code ignored;
  if (!std::filesystem::exists(paths.manifest, ignored)) return;
  const auto json = parse_json_or_null(read_file(paths.manifest));
  // Somebody else's file may have that name.
  if (!json.is_object() || !json.contains("tokenizer") || !json.contains("documents")) return;
  const auto manifest = read_manifest(paths.prefix);
  if (manifest.unfinished)
    throw DataError(paths.manifest.string(),
                    "says that the token file is unfinished; build it again");
  if (manifest.tokenizer_hash != tokenizer.hash())
    throw DataError(paths.tokens.string(), "was built with another tokenizer (" +
                                               manifest.tokenizer_kind + ", " +
                                               std::to_string(manifest.vocab_size) + " ids)");
}

// The start or end of the document around `token` that is nearer to it.
std::int64_t nearest_bound(const TokenFile& file, std::int64_t token) {
  std::int64_t low = 0, high = file.documents();  // the last document that begins there or before
  while (high - low > 1) {
    const auto middle = (low + high) / 2;
    (file.document(middle).begin <= token ? low : high) = middle;
  }
  const auto [begin, end] = file.document(low);
  return end - token < token - begin ? end : begin;
}

}  // namespace

void ReadyTokens::add_range(std::int64_t begin, std::int64_t end,
                            std::vector<TokenChain::Part>& parts) const {
  std::int64_t start = 0;
  for (const auto& file : files) {
    const auto first = std::max(begin - start, std::int64_t{0}),
               last = std::min(end - start, file->size());
    if (first < last) parts.push_back({file, first, last});
    start += file->size();
  }
}

std::int64_t ReadyTokens::train_share(double valid_fraction) const {
  const auto wanted = std::clamp<std::int64_t>(
      static_cast<std::int64_t>(static_cast<double>(size) * (1 - valid_fraction)), 0, size);
  std::int64_t before = 0;
  for (const auto& file : files) {
    if (before + file->size() > wanted) {
      const auto nearest = before + nearest_bound(*file, wanted - before);
      const bool near = 2 * std::abs(nearest - wanted) < size - wanted;
      return near && nearest > 0 && nearest < size ? nearest : wanted;
    }
    before += file->size();
  }
  return wanted;
}

ReadyTokens open_ready(const std::vector<std::filesystem::path>& prefixes,
                       const Tokenizer& tokenizer) {
  ReadyTokens ready;
  Hasher hasher;
  for (const auto& prefix : prefixes) {
    const TokenFilePaths paths(prefix);
    check_manifest(paths, tokenizer);
    auto file = std::make_shared<const TokenFile>(prefix);
    hasher.add(hash_file(paths.index) + std::to_string(file->size()));
    ready.size += file->size();
    if (file->size() > 0) ready.files.push_back(std::move(file));
  }
  ready.hash = hasher.hex();
  return ready;
}

}  // namespace rwkvx
