// Numbers for n-grams: equal n-grams of one order have equal numbers.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace rwkvx {

// A hash table from pairs of numbers to numbers counted from 0, emptied at no cost. An n-gram is
// named by the name of its first n-1 tokens and its last token, so no n-gram is ever spelled out.
class NgramNames {
 public:
  // Forgets all names and makes room for `count` of them.
  void clear(std::size_t count) {
    const auto places = std::bit_ceil(2 * (count < 8 ? 8 : count));
    if (table_.size() < places) table_.resize(places);
    mask_ = places - 1;  // the start of a large table only, which stays in the cache
    names_ = 0;
    if (++stamp_ == 0) {
      table_.assign(table_.size(), Entry{});
      stamp_ = 1;
    }
  }
  std::uint32_t name(std::uint32_t before, std::uint32_t token) {
    auto& entry = find(before, token);
    if (entry.stamp != stamp_) entry = {key(before, token), stamp_, names_++};
    return entry.name;
  }
  // The name, or `otherwise` where the pair has none.
  std::uint32_t name_or(std::uint32_t before, std::uint32_t token, std::uint32_t otherwise) {
    const auto& entry = find(before, token);
    return entry.stamp == stamp_ ? entry.name : otherwise;
  }
  std::uint32_t size() const { return names_; }

 private:
  struct Entry {
    std::uint64_t key;
    std::uint32_t stamp, name;
  };
  static std::uint64_t key(std::uint32_t before, std::uint32_t token) {
    return static_cast<std::uint64_t>(before) << 32 | token;
  }
  Entry& find(std::uint32_t before, std::uint32_t token) {
    const auto wanted = key(before, token);
    std::uint64_t at = wanted * 0x9e3779b97f4a7c15U;
    for (at ^= at >> 32;; ++at) {
      auto& entry = table_[at & mask_];
      if (entry.stamp != stamp_ || entry.key == wanted) return entry;
    }
  }
  std::vector<Entry> table_;
  std::size_t mask_ = 0;
  std::uint32_t stamp_ = 0, names_ = 0;
};

}  // namespace rwkvx
