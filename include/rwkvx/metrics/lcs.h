// Longest common subsequences of token lists, 64 table entries at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace rwkvx {

// Matches token lists against a pattern. One machine word holds the differences between 64
// neighboring entries of a column of the usual table, and one addition advances them all by a
// token: M. Crochemore et al., "A fast and practical bit-vector algorithm for the longest common
// subsequence problem", IPL 80 (2001); with H. Hyyrö's update (AWOCA 2004). Keeps its memory
// between calls. Not thread-safe.
class LcsMatcher {
 public:
  // A token of a text that no pattern holds.
  static constexpr std::uint32_t kNowhere = 0xffffffff;

  // mark() keeps at most about `kept_words` machine words of its table, or the square root of all
  // of it if that is more; for longer texts it computes the table twice.
  explicit LcsMatcher(std::size_t kept_words = std::size_t{1} << 21) : kept_words_(kept_words) {}

  // Length of the longest common subsequence of a and b. Their tokens lie below `token_limit`,
  // which costs memory only.
  std::size_t length(std::span<const std::uint32_t> a, std::span<const std::uint32_t> b,
                     std::uint32_t token_limit);

  // Sets the pattern for mark().
  void set_pattern(std::span<const std::uint32_t> pattern, std::uint32_t token_limit);
  // Sets taken[i] for each position i of the pattern that lies on one longest common subsequence
  // with `text`, and returns its length. The text may hold kNowhere. Of several subsequences, the
  // one that a walk back over the table t[i][j] (i over the pattern, j over the text) from its end
  // finds: on equal tokens take i and move both; else, if t[i][j-1] > t[i-1][j], move j; else move
  // i.
  std::size_t mark(std::span<const std::uint32_t> text, std::span<char> taken);

 private:
  struct Piece {  // the occurrences of a token within one machine word of the pattern
    std::uint32_t word;
    std::uint64_t bits;
  };
  struct Row {  // where a token's occurrences are: bits for every word, or pieces
    std::uint32_t count = 0, first = 0;
    bool dense = false;
  };
  void build_small();
  void build_large();
  void clear();
  template <std::size_t kWords>
  void advance_small(std::uint64_t* column, std::uint32_t token) const;
  // `top` is the last word that may hold a zero bit, or a later one.
  void advance_large(std::uint64_t* column, std::uint32_t token, std::size_t& top) const;
  void advance(std::uint64_t* column, std::uint32_t token, std::size_t& top) const;
  template <std::size_t kWords>
  std::size_t length_small(std::span<const std::uint32_t> text) const;
  std::size_t zeros(const std::uint64_t* column) const;

  std::size_t kept_words_;
  std::vector<std::uint32_t> pattern_;
  std::size_t words_ = 0;
  std::vector<std::uint64_t> small_;  // words_ per token, all 0 but for the tokens of the pattern
  std::vector<Row> rows_;             // per token, count 0 but for the tokens of the pattern
  std::vector<Piece> pieces_;
  std::vector<std::uint64_t> dense_;
  std::vector<std::uint64_t> columns_;
  std::vector<std::uint64_t> column_;
};

}  // namespace rwkvx
