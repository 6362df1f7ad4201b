#include "bpe.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <limits>
#include <memory>
#include <string>

namespace rwkvx {
namespace {

constexpr std::uint64_t kMix = 0x9E3779B97F4A7C15;
constexpr std::size_t kShortWord = 48;  // bytes up to which pairs are searched from end to end
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";   // U+FFFD
constexpr std::size_t kLongestWord = std::size_t{1} << 30;  // a longer one is cut
constexpr std::uint32_t kNoRank = std::numeric_limits<std::uint32_t>::max();

std::uint64_t pair_key(TokenId first, TokenId second) {
  return std::uint64_t{static_cast<std::uint32_t>(first)} << 32 |
         static_cast<std::uint32_t>(second);
}

// Up to 24 bytes as three numbers.
using WordKey = std::array<std::uint64_t, 3>;

}  // namespace

// The tokens of words that a thread met, each in the one place that its hash gives.
struct BytePairs::Cache {
  static constexpr std::size_t kWordBytes = sizeof(WordKey), kIds = 9;
  static constexpr int kPlaceBits = 15;
  struct alignas(64) Entry {
    WordKey key{};
    std::uint8_t bytes = 0, count = 0;  // bytes: 0 where the place is free
    std::array<TokenId, kIds> ids{};
  };
  std::vector<Entry> entries = std::vector<Entry>(std::size_t{1} << kPlaceBits);

  Entry& place(const WordKey& key) {
    const auto hash = ((key[0] * kMix ^ key[1]) * kMix ^ key[2]) * kMix;
    return entries[hash >> (64 - kPlaceBits)];
  }
};

BytePairs::BytePairs(const std::array<TokenId, 256>& bytes, std::span<const Merge> merges)
    : bytes_(bytes) {
  static std::atomic<std::uint64_t> instances{0};
  number_ = ++instances;
  const std::size_t places = std::bit_ceil(std::max<std::size_t>(16, merges.size() * 2));
  rules_.resize(places);
  shift_ = 64 - std::countr_zero(places);
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [first, second, merged] = merges[rank];
    const auto pair = pair_key(first, second);
    auto at = static_cast<std::size_t>(pair * kMix >> shift_);
    while (rules_[at].pair != ~std::uint64_t{0} && rules_[at].pair != pair)
      at = (at + 1) & (places - 1);
    rules_[at] = {pair, static_cast<std::uint32_t>(rank), merged};
  }
}

const BytePairs::Rule* BytePairs::find(TokenId first, TokenId second) const {
  const auto pair = pair_key(first, second);
  for (auto at = static_cast<std::size_t>(pair * kMix >> shift_);;
       at = (at + 1) & (rules_.size() - 1)) {
    const Rule& rule = rules_[at];
    if (rule.pair == pair) return &rule;
    if (rule.pair == ~std::uint64_t{0}) return nullptr;
  }
}

BytePairs::Cache& BytePairs::cache() const {
  thread_local std::unique_ptr<Cache> known;
  thread_local std::uint64_t owner = 0;
  if (owner != number_) {
    known = std::make_unique<Cache>();
    owner = number_;
  }
  return *known;
}

void BytePairs::encode(std::string_view word, Cache& cache, std::vector<TokenId>& ids) const {
  if (word.size() > Cache::kWordBytes) return merge(word, ids);
  WordKey key{};
  std::memcpy(key.data(), word.data(), word.size());
  auto& entry = cache.place(key);
  if (entry.bytes != word.size() || entry.key != key) {
    const auto before = ids.size();
    merge(word, ids);
    const auto count = ids.size() - before;
    if (count > Cache::kIds) return;
    entry.key = key;
    entry.bytes = static_cast<std::uint8_t>(word.size());
    entry.count = static_cast<std::uint8_t>(count);
    std::copy_n(ids.begin() + static_cast<std::ptrdiff_t>(before), count, entry.ids.begin());
    return;
  }
  ids.insert(ids.end(), entry.ids.begin(), entry.ids.begin() + entry.count);
}

void BytePairs::merge(std::string_view word, std::vector<TokenId>& ids) const {
  const auto missing = [&](char byte) { return bytes_[static_cast<unsigned char>(byte)] < 0; };
  if (std::any_of(word.begin(), word.end(), missing)) {
    std::string replaced;
    for (const char byte : word) missing(byte) ? replaced += kReplacement : replaced += byte;
    return merge(replaced, ids);
  }
  if (word.size() <= kShortWord) return merge_short(word, ids);
  for (; !word.empty(); word.remove_prefix(std::min(word.size(), kLongestWord)))
    merge_long(word.substr(0, kLongestWord), ids);
}

void BytePairs::merge_short(std::string_view word, std::vector<TokenId>& ids) const {
  std::array<TokenId, kShortWord> tokens, merged;
  std::array<std::uint32_t, kShortWord> ranks;  // of the pair that begins here
  std::size_t count = word.size();
  const auto look = [&](std::size_t at) {
    const Rule* rule = at + 1 < count ? find(tokens[at], tokens[at + 1]) : nullptr;
    ranks[at] = rule != nullptr ? rule->rank : kNoRank;
    if (rule != nullptr) merged[at] = rule->merged;
  };
  for (std::size_t i = 0; i < count; ++i) tokens[i] = bytes_[static_cast<unsigned char>(word[i])];
  for (std::size_t i = 0; i < count; ++i) look(i);
  while (count > 1) {
    const auto best = static_cast<std::size_t>(
        std::min_element(ranks.begin(), ranks.begin() + static_cast<std::ptrdiff_t>(count)) -
        ranks.begin());
    if (ranks[best] == kNoRank) break;
    tokens[best] = merged[best];
    for (std::size_t i = best + 1; i + 1 < count; ++i) {
      tokens[i] = tokens[i + 1];
      ranks[i] = ranks[i + 1];
      merged[i] = merged[i + 1];
    }
    --count;
    look(best);
    if (best > 0) look(best - 1);
  }
  ids.insert(ids.end(), tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(count));
}

// With a heap of pairs, so that a word of any length takes n log n steps.
void BytePairs::merge_long(std::string_view word, std::vector<TokenId>& ids) const {
  constexpr std::uint32_t kEnd = std::numeric_limits<std::uint32_t>::max();
  struct Link {
    TokenId token;
    std::uint32_t before, after;
  };
  struct Found {
    std::uint32_t rank, at;
    TokenId first, second, merged;
    bool operator>(const Found& other) const {
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  std::vector<Link> links(word.size());
  std::vector<Found> heap;
  const auto found = [&](std::uint32_t at) {
    if (at == kEnd || links[at].after == kEnd) return;
    const auto first = links[at].token, second = links[links[at].after].token;
    if (const Rule* rule = find(first, second); rule != nullptr) {
      heap.push_back({rule->rank, at, first, second, rule->merged});
      std::push_heap(heap.begin(), heap.end(), std::greater<>());
    }
  };
  const auto size = static_cast<std::uint32_t>(word.size());
  for (std::uint32_t i = 0; i < size; ++i)
    links[i] = {bytes_[static_cast<unsigned char>(word[i])], i == 0 ? kEnd : i - 1,
                i + 1 == size ? kEnd : i + 1};
  for (std::uint32_t i = 0; i + 1 < size; ++i) found(i);
  while (!heap.empty()) {
    const Found best = heap.front();
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    heap.pop_back();
    auto& link = links[best.at];
    // One of the two may have become part of another token meanwhile.
    if (link.token != best.first || link.after == kEnd || links[link.after].token != best.second)
      continue;
    links[link.after].token = -1;
    link.token = best.merged;
    link.after = links[link.after].after;
    if (link.after != kEnd) links[link.after].before = best.at;
    found(best.at);
    found(link.before);
  }
  for (std::uint32_t at = 0; at != kEnd; at = links[at].after) ids.push_back(links[at].token);
}

}  // namespace rwkvx
