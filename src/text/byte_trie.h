// Byte strings by their longest match at the beginning of a text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace rwkvx {

// A trie in one flat array (a double array): the child of a node by byte b is the cell at `base ^
// b`, if that cell says that it is reached by b. No two nodes have the same base, so this is enough
// to tell whose cell it is. A step costs one load.
class ByteTrie {
 public:
  static constexpr std::uint32_t kLargestValue = (1u << 23) - 1;

  ByteTrie() : cells_(256) {}  // of no strings
  // Strings in rising order of their bytes, none empty and none twice, each with a value of 1 ..
  // kLargestValue.
  explicit ByteTrie(std::span<const std::pair<std::string_view, std::uint32_t>> sorted);

  struct Match {
    std::uint32_t value = 0;  // 0: none of the strings is there
    std::size_t length = 0;
  };
  // The longest string that `text` begins with.
  Match longest(std::string_view text) const {
    Match match;
    const Cell* const cells = cells_.data();
    std::uint32_t base = root_;
    for (std::size_t at = 0; at < text.size();) {
      const auto byte = static_cast<unsigned char>(text[at++]);
      const Cell cell = cells[base ^ byte];
      if ((cell.label_and_value & kLabelMask) != byte) break;
      base = cell.base;
      const std::uint32_t value = cell.label_and_value >> kLabelBits;
      match.value = value != 0 ? value : match.value;
      match.length = value != 0 ? at : match.length;
    }
    return match;
  }

 private:
  static constexpr std::uint32_t kLabelBits = 9, kLabelMask = (1u << kLabelBits) - 1;
  static constexpr std::uint32_t kFree = 256;  // a label that no byte has
  struct Cell {
    std::uint32_t base = 0;  // 0: a block without children
    std::uint32_t label_and_value = kFree;
  };
  class Builder;
  std::vector<Cell> cells_;
  std::uint32_t root_ = 0;
};

}  // namespace rwkvx
