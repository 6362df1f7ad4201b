// Multi-query associative recall: keys with values, then some tokens among which each key comes
// again and its value must follow.
//
// After S. Arora et al., "Zoology" (arXiv 2312.04927), appendix E: keys are of the lower half of
// the vocabulary and values of the upper; where a key comes again is drawn with a probability that
// falls as 1 / distance; all other places are random tokens. Other than there the value stands
// after the key that asks for it, so that predicting the next token is the whole task.
#pragma once

#include <cstdint>
#include <vector>

namespace rwkvx {

struct RecallShape {
  std::int64_t pairs = 8, tokens = 128, vocab = 8192;
};
struct RecallSequence {
  std::vector<std::int64_t> ids;      // (tokens)
  std::vector<std::int64_t> answers;  // indices into ids of the values that are asked for
};

// Sequence `index` of a corpus: a pure function of its arguments. 4 pairs <= tokens and vocab.
RecallSequence recall_sequence(const RecallShape& shape, std::uint64_t seed, std::uint64_t index);

}  // namespace rwkvx
