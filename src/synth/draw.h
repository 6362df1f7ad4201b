// Draws from short lists: a stream of random integers that is the same on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "rwkvx/base/splitmix64.h"

namespace rwkvx {

class Draw {
 public:
  explicit Draw(std::uint64_t key) : key_(key) {}
  // 0 .. count-1, for counts far below 2^32.
  std::size_t below(std::size_t count) {
    return static_cast<std::size_t>(((splitmix64(key_, counter_++) >> 32) * count) >> 32);
  }
  int between(int least, int most) {
    return least + static_cast<int>(below(static_cast<std::size_t>(most - least + 1)));
  }
  bool percent(int chance) { return static_cast<int>(below(100)) < chance; }
  template <class List>
  const auto& pick(const List& list) {
    return list[below(std::size(list))];
  }
  // `count` different indices of a list of `size`, in random order.
  std::vector<std::size_t> several(std::size_t count, std::size_t size) {
    std::vector<std::size_t> all(size);
    for (std::size_t i = 0; i < size; ++i) all[i] = i;
    for (std::size_t i = 0; i < count; ++i) std::swap(all[i], all[i + below(size - i)]);
    all.resize(count);
    return all;
  }

 private:
  std::uint64_t key_, counter_ = 0;
};

}  // namespace rwkvx
