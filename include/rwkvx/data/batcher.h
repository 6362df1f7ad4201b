// Windows of tokens, for training (shuffled) and for validation (in order).
//
// Both read the tokens as a circle: the token before the first one is the last one, which is a
// document end. So every token is predicted from something, and a window may start anywhere.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "rwkvx/data/token_file.h"

namespace rwkvx {

// A permutation of 0 .. size-1 that is computed, not stored: four rounds of a balanced Feistel
// network, walked until the result lies below `size`.
class Permutation {
 public:
  // Two different keys give two independent permutations. size >= 1.
  Permutation(std::uint64_t size, std::uint64_t key);
  std::uint64_t operator()(std::uint64_t index) const;

 private:
  std::uint64_t size_, keys_[4];
  int half_bits_;
};

// Throws DataError, naming both numbers, where a text of `tokens` tokens has fewer than
// ctx_len + 1. `where` names the text.
void check_length(const std::string& where, std::int64_t tokens, std::int64_t ctx_len);

// A text of a mixture and its share of the sequences, relative to the others'.
struct MixturePart {
  const TokenSource* tokens;
  double weight;
};

// Training batches as a pure function of (seed, ctx_len, batch_size, index): resuming needs the
// index only. An epoch cuts the circle, from a random phase, into windows() windows of ctx_len
// tokens that do not overlap and visits each once, in random order; fewer than ctx_len tokens,
// elsewhere in each epoch, are left out. Batches go on over the end of an epoch. Thread-safe; keeps
// references to the tokens.
//
// A mixture draws each sequence from one of its parts: of every kCycle sequences, a part's share of
// them, rounded, at least one, in random order. Each part has epochs of its own.
class Batcher {
 public:
  static constexpr std::int64_t kCycle = 4096;
  // Throws DataError, naming both numbers, where a part has fewer than ctx_len + 1 tokens.
  Batcher(std::span<const MixturePart> parts, std::int64_t ctx_len, std::int64_t batch_size,
          std::uint64_t seed);
  Batcher(const TokenSource& tokens, std::int64_t ctx_len, std::int64_t batch_size,
          std::uint64_t seed);
  // Windows of one epoch of a part.
  std::int64_t windows(std::size_t part = 0) const { return parts_[part].windows; }
  // The part that the sequence-th window since the start of training is of, and its first input
  // token there.
  struct Window {
    std::size_t part;
    std::int64_t offset;
  };
  Window window(std::int64_t sequence) const;
  // The same of a single text.
  std::int64_t offset(std::int64_t sequence) const { return window(sequence).offset; }
  // Batch number `index` = 0, 1, …: inputs and targets are each batch_size × ctx_len ids, row by
  // row; a target is the token after its input.
  void fill(std::int64_t index, std::int64_t* inputs, std::int64_t* targets) const;

 private:
  struct Part {
    const TokenSource* tokens;
    std::int64_t windows;
    std::uint64_t seed;
    std::int64_t begin, count;  // places of a cycle
  };
  std::vector<Part> parts_;
  std::int64_t ctx_len_, batch_size_;
  std::uint64_t seed_;
};

// Validation: each of the first `max_tokens` tokens (0: all) is a target exactly once, in windows
// of ctx_len that do not overlap. Windows come batch_size at a time; what remains at the end comes
// as a last batch of one shorter window. Keeps a reference to the tokens.
class EvaluationBatches {
 public:
  EvaluationBatches(const TokenSource& tokens, std::int64_t ctx_len, std::int64_t batch_size,
                    std::int64_t max_tokens = 0);
  std::int64_t batches() const { return batches_; }
  // Predicted tokens of all batches together.
  std::int64_t targets() const { return targets_; }
  struct Shape {
    std::int64_t rows, length;
  };
  Shape shape(std::int64_t index) const;
  // inputs and targets are each rows × length ids, row by row.
  void fill(std::int64_t index, std::int64_t* inputs, std::int64_t* targets) const;

 private:
  const TokenSource& tokens_;
  std::int64_t ctx_len_, batch_size_, targets_, full_windows_, full_batches_, batches_;
};

}  // namespace rwkvx
