#include "rwkvx/data/batcher.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "rwkvx/base/error.h"
#include "rwkvx/base/splitmix64.h"

namespace rwkvx {
namespace {

// Tokens [offset, offset + count) of the circle.
void read_circle(const TokenSource& tokens, std::int64_t offset, std::int64_t count,
                 std::int64_t* out) {
  const std::int64_t size = tokens.size();
  for (offset %= size; count > 0; offset = 0) {
    const std::int64_t part = std::min(count, size - offset);
    tokens.read(offset, part, out);
    out += part;
    count -= part;
  }
}

// One window: length inputs from `offset` on, and the tokens after them.
void read_window(const TokenSource& tokens, std::int64_t offset, std::int64_t length,
                 std::int64_t* inputs, std::int64_t* targets) {
  read_circle(tokens, offset, length, inputs);
  std::copy(inputs + 1, inputs + length, targets);
  read_circle(tokens, offset + length, 1, targets + length - 1);
}

}  // namespace

Permutation::Permutation(std::uint64_t size, std::uint64_t key) : size_(size), keys_{} {
  // The smallest square of a power of two that holds `size`: fewer than four times as many.
  half_bits_ = std::max(1, (static_cast<int>(std::bit_width(size - 1)) + 1) / 2);
  for (std::uint64_t round = 0; round < 4; ++round) keys_[round] = splitmix64(key, round);
}

std::uint64_t Permutation::operator()(std::uint64_t index) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  do {
    std::uint64_t left = index >> half_bits_, right = index & mask;
    for (const std::uint64_t key : keys_) {
      const std::uint64_t next = left ^ (splitmix64(key, right) & mask);
      left = right;
      right = next;
    }
    index = left << half_bits_ | right;
  } while (index >= size_);  // a bijection of the square, so the walk comes back below size_
  return index;
}

void check_length(const std::string& where, std::int64_t tokens, std::int64_t ctx_len) {
  if (tokens < ctx_len + 1)
    throw DataError(where, "the text has " + std::to_string(tokens) + " tokens, but ctx_len = " +
                               std::to_string(ctx_len) + " needs at least " +
                               std::to_string(ctx_len + 1) + "; lower ctx_len or give more text");
}

Batcher::Batcher(std::span<const MixturePart> parts, std::int64_t ctx_len, std::int64_t batch_size,
                 std::uint64_t seed)
    : ctx_len_(ctx_len), batch_size_(batch_size), seed_(seed) {
  double weights = 0;
  for (const auto& part : parts) weights += part.weight;
  double sum = 0;
  std::int64_t begin = 0, left = static_cast<std::int64_t>(parts.size());
  for (const auto& part : parts) {
    check_length(part.tokens->name(), part.tokens->size(), ctx_len);
    sum += part.weight;
    --left;
    // Rounded sums, so that the rounding does not add up; a place is kept for each part.
    const auto wanted = std::llround(static_cast<double>(kCycle) * sum / weights);
    const auto end =
        left == 0 ? kCycle : std::clamp<std::int64_t>(wanted, begin + 1, kCycle - left);
    const auto number = parts_.size();
    parts_.push_back({part.tokens, part.tokens->size() / ctx_len,
                      number == 0 ? seed : splitmix64(seed, ~std::uint64_t{number}), begin,
                      end - begin});
    begin = end;
  }
}

Batcher::Batcher(const TokenSource& tokens, std::int64_t ctx_len, std::int64_t batch_size,
                 std::uint64_t seed)
    : Batcher(std::array{MixturePart{&tokens, 1}}, ctx_len, batch_size, seed) {}

Batcher::Window Batcher::window(std::int64_t sequence) const {
  std::size_t number = 0;
  if (parts_.size() > 1) {
    const auto cycle = sequence / kCycle;
    const Permutation order(kCycle, splitmix64(~seed_, static_cast<std::uint64_t>(cycle)));
    const auto place =
        static_cast<std::int64_t>(order(static_cast<std::uint64_t>(sequence % kCycle)));
    while (number + 1 < parts_.size() && parts_[number + 1].begin <= place) ++number;
    // How many sequences of this part came before, but for their order within the cycle.
    sequence = cycle * parts_[number].count + place - parts_[number].begin;
  }
  const Part& part = parts_[number];
  const auto epoch = static_cast<std::uint64_t>(sequence / part.windows);
  const std::uint64_t key = splitmix64(part.seed, epoch);
  const auto size = static_cast<std::uint64_t>(part.tokens->size());
  const std::uint64_t phase = splitmix64(key, 4) % size;  // rounds 0 to 3 are the permutation's
  const Permutation permutation(static_cast<std::uint64_t>(part.windows), key);
  const std::uint64_t window = permutation(static_cast<std::uint64_t>(sequence % part.windows));
  return {number, static_cast<std::int64_t>(
                      (phase + window * static_cast<std::uint64_t>(ctx_len_)) % size)};
}

void Batcher::fill(std::int64_t index, std::int64_t* inputs, std::int64_t* targets) const {
  for (std::int64_t row = 0; row < batch_size_; ++row) {
    const auto [part, offset] = window(index * batch_size_ + row);
    read_window(*parts_[part].tokens, offset, ctx_len_, inputs + row * ctx_len_,
                targets + row * ctx_len_);
  }
}

EvaluationBatches::EvaluationBatches(const TokenSource& tokens, std::int64_t ctx_len,
                                     std::int64_t batch_size, std::int64_t max_tokens)
    : tokens_(tokens), ctx_len_(ctx_len), batch_size_(batch_size) {
  if (tokens.size() == 0) throw DataError(tokens.name(), "holds no tokens to evaluate");
  targets_ = max_tokens > 0 ? std::min(max_tokens, tokens.size()) : tokens.size();
  full_windows_ = targets_ / ctx_len;
  full_batches_ = (full_windows_ + batch_size - 1) / batch_size;
  batches_ = full_batches_ + (targets_ % ctx_len != 0 ? 1 : 0);
}

EvaluationBatches::Shape EvaluationBatches::shape(std::int64_t index) const {
  if (index >= full_batches_) return {1, targets_ % ctx_len_};
  return {std::min(batch_size_, full_windows_ - index * batch_size_), ctx_len_};
}

void EvaluationBatches::fill(std::int64_t index, std::int64_t* inputs,
                             std::int64_t* targets) const {
  const Shape shape = this->shape(index);
  const std::int64_t first = index >= full_batches_ ? full_windows_ : index * batch_size_;
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    // Token number t is predicted from token t - 1; the first from the last, a document end.
    const std::int64_t offset = (first + row) * ctx_len_ + tokens_.size() - 1;
    read_window(tokens_, offset, shape.length, inputs + row * shape.length,
                targets + row * shape.length);
  }
}

}  // namespace rwkvx
