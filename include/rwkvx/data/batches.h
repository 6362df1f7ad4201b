// The batches of a training and of its validation, of windows of text or of packed documents.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "rwkvx/data/batcher.h"
#include "rwkvx/data/supervised.h"

namespace rwkvx {

// Sequences one after the other, each of which starts from an empty state.
struct TokenBatch {
  std::vector<std::int64_t> inputs, targets;  // (tokens)
  std::vector<float> weights;                 // (tokens), of the losses; empty: all 1
  std::vector<std::int64_t> lengths;          // of the sequences
  double weight = 0;                          // sum of the weights
  std::int64_t position = -1, next = -1;      // in the order of training: its own, the next one's
  std::int64_t first_token = 0;               // of a part of a batch: its place in the whole
};

// Sequences [first, end) of a batch as a batch; the weight is that of these.
TokenBatch part_of(const TokenBatch& batch, std::size_t first, std::size_t end);

// Batches as a pure function of where they begin in the order of training: 0, then each batch's
// `next`. Thread-safe.
class TrainingBatches {
 public:
  virtual ~TrainingBatches() = default;
  virtual void fill(std::int64_t position, TokenBatch& batch) const = 0;
  // The most sequences of a batch, 0 where all have ctx_len tokens.
  virtual std::int64_t most_sequences() const { return 0; }
};

class ValidationBatches {
 public:
  virtual ~ValidationBatches() = default;
  virtual std::int64_t batches() const = 0;
  virtual void fill(std::int64_t index, TokenBatch& batch) const = 0;
};

// Windows of running text: position counts batches.
std::unique_ptr<TrainingBatches> window_batches(Batcher batcher, std::int64_t ctx_len,
                                                std::int64_t batch_size);
std::unique_ptr<ValidationBatches> window_checks(const TokenSource& tokens, std::int64_t ctx_len,
                                                 std::int64_t batch_size, std::int64_t max_tokens);

// Whole documents in random order, another in each epoch, as many as fit into `tokens` tokens: a
// batch ends before the document that does not fit, and goes on over the end of an epoch. Position
// counts documents. A batch holds at most tokens / kLeastTokens documents. The set is kept by
// reference; no document may be longer than `tokens`.
inline constexpr std::int64_t kLeastTokens = 16;
std::unique_ptr<TrainingBatches> packed_batches(const SupervisedSet& set, std::int64_t tokens,
                                                std::uint64_t seed);
// The documents in order, until max_tokens (0: all) have a loss.
std::unique_ptr<ValidationBatches> packed_checks(const SupervisedSet& set, std::int64_t tokens,
                                                 std::int64_t max_tokens);

}  // namespace rwkvx
