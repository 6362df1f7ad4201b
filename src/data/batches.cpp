#include "rwkvx/data/batches.h"

#include <algorithm>

#include "rwkvx/base/splitmix64.h"

namespace rwkvx {
namespace {

void resize(TokenBatch& batch, std::int64_t rows, std::int64_t length) {
  const auto tokens = static_cast<std::size_t>(rows * length);
  batch.inputs.resize(tokens);
  batch.targets.resize(tokens);
  batch.weights.clear();
  batch.lengths.assign(static_cast<std::size_t>(rows), length);
  batch.weight = static_cast<double>(tokens);
}

class Windows : public TrainingBatches {
 public:
  Windows(Batcher batcher, std::int64_t ctx_len, std::int64_t batch_size)
      : batcher_(std::move(batcher)), ctx_len_(ctx_len), batch_size_(batch_size) {}
  void fill(std::int64_t position, TokenBatch& batch) const override {
    resize(batch, batch_size_, ctx_len_);
    batcher_.fill(position, batch.inputs.data(), batch.targets.data());
    batch.position = position, batch.next = position + 1;
  }

 private:
  Batcher batcher_;
  std::int64_t ctx_len_, batch_size_;
};

class WindowChecks : public ValidationBatches {
 public:
  WindowChecks(const TokenSource& tokens, std::int64_t ctx_len, std::int64_t batch_size,
               std::int64_t max_tokens)
      : batches_(tokens, ctx_len, batch_size, max_tokens) {}
  std::int64_t batches() const override { return batches_.batches(); }
  void fill(std::int64_t index, TokenBatch& batch) const override {
    const auto shape = batches_.shape(index);
    resize(batch, shape.rows, shape.length);
    batches_.fill(index, batch.inputs.data(), batch.targets.data());
    batch.position = index, batch.next = index + 1;
  }

 private:
  EvaluationBatches batches_;
};

void clear(TokenBatch& batch) {
  batch.inputs.clear();
  batch.targets.clear();
  batch.weights.clear();
  batch.lengths.clear();
  batch.weight = 0;
}

void append(const SupervisedSet& set, std::int64_t document, TokenBatch& batch) {
  const auto inputs = set.inputs(document), targets = set.targets(document);
  const auto weights = set.weights(document);
  batch.inputs.insert(batch.inputs.end(), inputs.begin(), inputs.end());
  batch.targets.insert(batch.targets.end(), targets.begin(), targets.end());
  batch.weights.insert(batch.weights.end(), weights.begin(), weights.end());
  batch.lengths.push_back(set.length(document));
  for (const float weight : weights) batch.weight += static_cast<double>(weight);
}

std::int64_t most_documents(std::int64_t tokens) {
  return std::max<std::int64_t>(1, tokens / kLeastTokens);
}

class Packed : public TrainingBatches {
 public:
  Packed(const SupervisedSet& set, std::int64_t tokens, std::uint64_t seed)
      : set_(set), tokens_(tokens), seed_(seed) {}
  std::int64_t most_sequences() const override { return most_documents(tokens_); }

  void fill(std::int64_t position, TokenBatch& batch) const override {
    clear(batch);
    batch.position = batch.next = position;
    while (static_cast<std::int64_t>(batch.lengths.size()) < most_sequences()) {
      const auto one = document(batch.next);
      const auto used = static_cast<std::int64_t>(batch.inputs.size());
      if (used > 0 && used + set_.length(one) > tokens_) break;
      append(set_, one, batch);
      ++batch.next;
    }
  }

 private:
  std::int64_t document(std::int64_t position) const {
    const auto size = static_cast<std::uint64_t>(set_.size());
    const auto place = static_cast<std::uint64_t>(position);
    const Permutation order(size, splitmix64(seed_, place / size));
    return static_cast<std::int64_t>(order(place % size));
  }
  const SupervisedSet& set_;
  std::int64_t tokens_;
  std::uint64_t seed_;
};

class PackedChecks : public ValidationBatches {
 public:
  PackedChecks(const SupervisedSet& set, std::int64_t tokens, std::int64_t max_tokens) : set_(set) {
    std::int64_t used = 0, learned = 0;
    for (std::int64_t i = 0; i < set.size(); ++i) {
      if (max_tokens > 0 && learned >= max_tokens) break;
      const auto length = set.length(i);
      if (begins_.empty() || used + length > tokens ||
          i - begins_.back() >= most_documents(tokens)) {
        begins_.push_back(i);
        used = 0;
      }
      used += length;
      end_ = i + 1;
      for (const float weight : set.weights(i)) learned += weight != 0;
    }
  }
  std::int64_t batches() const override { return static_cast<std::int64_t>(begins_.size()); }
  void fill(std::int64_t index, TokenBatch& batch) const override {
    clear(batch);
    const auto at = static_cast<std::size_t>(index);
    const auto end = at + 1 < begins_.size() ? begins_[at + 1] : end_;
    for (auto i = begins_[at]; i < end; ++i) append(set_, i, batch);
    batch.position = index, batch.next = index + 1;
  }

 private:
  const SupervisedSet& set_;
  std::vector<std::int64_t> begins_;
  std::int64_t end_ = 0;
};

}  // namespace

TokenBatch part_of(const TokenBatch& batch, std::size_t first, std::size_t end) {
  TokenBatch part;
  const auto tokens = [&](std::size_t from, std::size_t to) {
    std::ptrdiff_t sum = 0;
    for (auto i = from; i < to; ++i) sum += static_cast<std::ptrdiff_t>(batch.lengths[i]);
    return sum;
  };
  const auto begin = tokens(0, first), count = tokens(first, end);
  const auto cut = [&](const auto& all, auto& some) {
    if (!all.empty()) some.assign(all.begin() + begin, all.begin() + begin + count);
  };
  cut(batch.inputs, part.inputs);
  cut(batch.targets, part.targets);
  cut(batch.weights, part.weights);
  for (auto i = first; i < end; ++i) part.lengths.push_back(batch.lengths[i]);
  part.weight = batch.weights.empty() ? static_cast<double>(count) : 0;
  for (const float weight : part.weights) part.weight += static_cast<double>(weight);
  part.position = batch.position, part.next = batch.next;
  part.first_token = begin;
  return part;
}

std::unique_ptr<TrainingBatches> window_batches(Batcher batcher, std::int64_t ctx_len,
                                                std::int64_t batch_size) {
  return std::make_unique<Windows>(std::move(batcher), ctx_len, batch_size);
}
std::unique_ptr<ValidationBatches> window_checks(const TokenSource& tokens, std::int64_t ctx_len,
                                                 std::int64_t batch_size, std::int64_t max_tokens) {
  return std::make_unique<WindowChecks>(tokens, ctx_len, batch_size, max_tokens);
}
std::unique_ptr<TrainingBatches> packed_batches(const SupervisedSet& set, std::int64_t tokens,
                                                std::uint64_t seed) {
  return std::make_unique<Packed>(set, tokens, seed);
}
std::unique_ptr<ValidationBatches> packed_checks(const SupervisedSet& set, std::int64_t tokens,
                                                 std::int64_t max_tokens) {
  return std::make_unique<PackedChecks>(set, tokens, max_tokens);
}

}  // namespace rwkvx
