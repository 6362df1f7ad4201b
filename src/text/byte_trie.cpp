#include "byte_trie.h"

#include <algorithm>
#include <bitset>
#include <deque>

namespace rwkvx {
namespace {

constexpr std::size_t kBlock = 256;     // cells that one base reaches
constexpr std::size_t kOpenBlocks = 4;  // looked at for free cells; older ones stay as they are

}  // namespace

class ByteTrie::Builder {
 public:
  explicit Builder(std::vector<Cell>& cells) : cells_(cells) { cells_.resize(kBlock); }

  // A base of its own under which the cells of all `labels` are free.
  std::uint32_t find_base(std::span<const unsigned char> labels) {
    for (auto& block : open_)
      if (const auto base = base_in(block, labels); base != 0) return base;
    if (open_.size() == kOpenBlocks) open_.pop_front();
    open_.push_back({static_cast<std::uint32_t>(cells_.size()), {}, {}, kBlock, 0});
    cells_.resize(cells_.size() + kBlock);
    return base_in(open_.back(), labels);
  }

 private:
  struct Block {
    std::uint32_t first;
    std::bitset<kBlock> cells, bases;  // in use
    std::size_t left;                  // free cells
    std::size_t first_free;
  };

  static std::uint32_t base_in(Block& block, std::span<const unsigned char> labels) {
    if (block.left < labels.size()) return 0;
    while (block.first_free < kBlock && block.cells[block.first_free]) ++block.first_free;
    for (std::size_t place = block.first_free; place < kBlock; ++place) {
      const std::size_t base = place ^ labels.front();
      if (block.cells[place] || block.bases[base]) continue;
      const auto in_use = [&](unsigned char label) { return block.cells[base ^ label]; };
      if (std::any_of(labels.begin() + 1, labels.end(), in_use)) continue;
      for (const auto label : labels) block.cells.set(base ^ label);
      block.bases.set(base);
      block.left -= labels.size();
      return block.first + static_cast<std::uint32_t>(base);
    }
    return 0;
  }

  std::vector<Cell>& cells_;
  std::deque<Block> open_;
};

// Level by level, so that depth costs no recursion and the cells that most texts go through lie
// side by side.
ByteTrie::ByteTrie(std::span<const std::pair<std::string_view, std::uint32_t>> sorted) {
  struct Node {
    std::size_t begin, end, depth;  // the strings that go through it
    std::uint32_t cell;
  };
  Builder builder(cells_);
  std::deque<Node> nodes{{0, sorted.size(), 0, 0}};
  std::vector<unsigned char> labels;
  std::vector<std::size_t> ends;
  for (; !nodes.empty(); nodes.pop_front()) {
    auto [begin, end, depth, cell] = nodes.front();
    if (begin < end && sorted[begin].first.size() == depth)
      cells_[cell].label_and_value |= sorted[begin++].second << kLabelBits;
    if (begin == end) continue;
    labels.clear();
    ends.clear();
    for (std::size_t i = begin; i < end; ++i) {
      const auto byte = static_cast<unsigned char>(sorted[i].first[depth]);
      if (labels.empty() || labels.back() != byte) {
        labels.push_back(byte);
        ends.push_back(i);
      }
      ends.back() = i + 1;
    }
    const auto base = builder.find_base(labels);
    (depth == 0 ? root_ : cells_[cell].base) = base;
    for (std::size_t child = 0; child < labels.size(); ++child) {
      const auto next = base ^ labels[child];
      cells_[next].label_and_value = labels[child];
      nodes.push_back({begin, ends[child], depth + 1, next});
      begin = ends[child];
    }
  }
}

}  // namespace rwkvx
