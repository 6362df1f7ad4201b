// A token drawn from each row of logits, for the threads of one block: one row. The chain of
// generate/samplers.h in its usual order, in float64 as there: offsets, penalties, temperature,
// top-k, top-p, min-p. Nothing is sorted: the token at which a sum over the likelier ones reaches a
// share is found digit by digit of its logit.
#pragma once

#include <string>

#include "rwkvx/ops/cuda/lanes.h"

struct CUstream_st;

namespace rwkvx::cuda {

// Of one row.
struct DrawRow {
  std::int64_t forced;  // a token that is taken without drawing; -1: none
  double uniform;       // in [0, 1)
  double temperature;   // 0: the likeliest token
  std::int64_t top_k;   // 0: all
  double top_p, min_p;  // 1, 0: all
  double repetition, presence, frequency;
  // Ranges of the call's lists: what is added to tokens' logits (-inf: never drawn), and how often
  // tokens were drawn before. No token is twice in one of them.
  std::int64_t offsets, offset_count, seen, seen_count;
};

struct DrawResult {
  double logprob;  // natural log of the token's probability among all logits, before the samplers
  std::int64_t token;
};
constexpr std::int64_t kNoFiniteLogit = -1, kAllBanned = -2;  // in place of a token

struct DrawCall {
  std::int64_t rows, vocab;  // of the logits
  std::int64_t usable;       // tokens that can be drawn are below it
  const float* logits;       // (rows, vocab)
  const DrawRow* settings;   // (rows)
  const std::int64_t* ids;   // of the lists
  const double* amounts;
  double* values;       // (rows, usable), for the kernel: logits behind the samplers
  double* weights;      // (rows, usable), for the kernel: e^(value - the highest)
  DrawResult* results;  // (rows)
};

constexpr int kDrawThreads = 256;
constexpr int kDrawDigit = 4, kDrawBins = 1 << kDrawDigit;  // bits of a digit, and its values

struct DrawShared {
  double sums[kDrawBins][kDrawThreads];
  unsigned short counts[kDrawBins][kDrawThreads];
  double bin_sums[kDrawBins];
  int bin_counts[kDrawBins];
  double before;    // the sum of what is likelier than the digits found so far
  int digit, last;  // the one just found; whether it leaves one token
  std::int64_t token;
};

// The order of float64 numbers as that of integers; 0 and -0 are one.
RWKVX_HOST_DEVICE std::uint64_t draw_key(double value) {
  value += 0.0;
  std::uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return (bits >> 63) != 0 ? ~bits : bits | (std::uint64_t{1} << 63);
}

// A token, and all that are likelier; of equally likely ones the lower id is.
struct DrawLimit {
  std::uint64_t key;
  std::int64_t id;
  RWKVX_HOST_DEVICE bool has(std::uint64_t other, std::int64_t i) const {
    return other > key || (other == key && i <= id);
  }
};

// How a sum over tokens ends: with the first that brings it to the target, or above it.
enum class DrawEnd { kReached, kPassed };

template <class Threads>
struct DrawBlock {
  const DrawCall& call;
  const Threads& threads;
  DrawShared& shared;
  const float* logits;
  double* values;
  double* weights;
  int V;  // usable

  // Every thread's result becomes that of all, in shared.sums[0][0].
  template <class Combine>
  RWKVX_HOST_DEVICE double reduce(const Combine& combine) const {
    for (int half = kDrawThreads / 2; half > 0; half /= 2) {
      threads.meet();
      threads.run([&](int thread) {
        if (thread < half)
          shared.sums[0][thread] = combine(shared.sums[0][thread], shared.sums[0][thread + half]);
      });
    }
    threads.meet();
    const double result = shared.sums[0][0];
    threads.meet();
    return result;
  }
  // use(thread's sum so far, i) over i below `count`.
  template <class Use, class Combine>
  RWKVX_HOST_DEVICE double over(int count, double start, const Use& use,
                                const Combine& combine) const {
    threads.run([&](int thread) {
      double own = start;
      for (int i = thread; i < count; i += kDrawThreads) own = use(own, i);
      shared.sums[0][thread] = own;
    });
    return reduce(combine);
  }
  RWKVX_HOST_DEVICE double sum_of_weights(const DrawLimit& limit) const {
    return over(
        V, 0.0,
        [&](double sum, int i) {
          return limit.has(draw_key(values[i]), i) ? sum + weights[i] : sum;
        },
        [](double a, double b) { return a + b; });
  }

  // Of the tokens within `limit`, likelier ones first or, not `ranked`, by their ids: the one that
  // brings the sum of their weights, or their number, to `target`; the last where none does.
  RWKVX_HOST_DEVICE DrawLimit find(const DrawLimit& limit, double target, DrawEnd end, bool ranked,
                                   bool counted) const {
    threads.run([&](int thread) {
      if (thread == 0) shared.before = 0, shared.last = 0;
    });
    threads.meet();
    DrawLimit found{0, 0};
    if (ranked)
      for (int shift = 64 - kDrawDigit; shift >= 0 && shared.last == 0; shift -= kDrawDigit) {
        const int above = shift + kDrawDigit;
        take_digit(
            [&](int i, int* digit) {
              const std::uint64_t key = draw_key(values[i]);
              if (!limit.has(key, i)) return false;
              if (above < 64 && key >> above != found.key >> above) return false;
              *digit = kDrawBins - 1 - static_cast<int>(key >> shift & (kDrawBins - 1));
              return true;
            },
            target, end, counted);
        found.key |= static_cast<std::uint64_t>(kDrawBins - 1 - shared.digit) << shift;
        if (shared.last == 0) continue;
        // One token has these digits.
        return the_one([&](int i) {
          const std::uint64_t key = draw_key(values[i]);
          return limit.has(key, i) && key >> shift == found.key >> shift;
        });
      }
    int bits = kDrawDigit;
    while (bits < 31 && V > (std::int64_t{1} << bits)) bits += kDrawDigit;
    for (int shift = bits - kDrawDigit; shift >= 0; shift -= kDrawDigit) {
      const int above = shift + kDrawDigit;
      take_digit(
          [&](int i, int* digit) {
            const std::uint64_t key = draw_key(values[i]);
            if (!limit.has(key, i) || (ranked && key != found.key)) return false;
            if (i >> above != found.id >> above) return false;
            *digit = i >> shift & (kDrawBins - 1);
            return true;
          },
          target, end, counted);
      found.id |= static_cast<std::int64_t>(shared.digit) << shift;
    }
    if (!ranked) found.key = draw_key(values[found.id]);
    threads.meet();
    return found;
  }

  // Which digit the sum ends in, of the tokens for which of(i, digit) is true; digits in their
  // order.
  template <class Of>
  RWKVX_HOST_DEVICE void take_digit(const Of& of, double target, DrawEnd end, bool counted) const {
    threads.meet();
    threads.run([&](int thread) {
      for (int bin = 0; bin < kDrawBins; ++bin)
        shared.sums[bin][thread] = 0, shared.counts[bin][thread] = 0;
      for (int i = thread; i < V; i += kDrawThreads) {
        int digit = 0;
        if (!of(i, &digit)) continue;
        shared.sums[digit][thread] += counted ? 1.0 : weights[i];
        ++shared.counts[digit][thread];
      }
    });
    threads.meet();
    threads.run([&](int bin) {
      if (bin >= kDrawBins) return;
      double sum = 0;
      int count = 0;
      for (int i = 0; i < kDrawThreads; ++i)
        sum += shared.sums[bin][i], count += shared.counts[bin][i];
      shared.bin_sums[bin] = sum, shared.bin_counts[bin] = count;
    });
    threads.meet();
    threads.run([&](int thread) {
      if (thread != 0) return;
      double before = shared.before, last_before = before;
      int chosen = 0;
      for (int bin = 0; bin < kDrawBins; ++bin) {
        if (shared.bin_counts[bin] == 0) continue;
        const double after = before + shared.bin_sums[bin];
        chosen = bin, last_before = before;
        if (end == DrawEnd::kReached ? after >= target : after > target) break;
        before = after;
      }
      shared.before = last_before, shared.digit = chosen;
      shared.last = shared.bin_counts[chosen] == 1 ? 1 : 0;
    });
    threads.meet();
  }
  template <class Is>
  RWKVX_HOST_DEVICE DrawLimit the_one(const Is& is) const {
    threads.run([&](int thread) {
      for (int i = thread; i < V; i += kDrawThreads)
        if (is(i)) shared.token = i;
    });
    threads.meet();
    const DrawLimit found{draw_key(values[shared.token]), shared.token};
    threads.meet();
    return found;
  }

  // The logits behind offsets and penalties, -inf for tokens that are not drawn.
  RWKVX_HOST_DEVICE void fill(const DrawRow& row) const {
    threads.run([&](int thread) {
      for (int i = thread; i < V; i += kDrawThreads) {
        const double logit = static_cast<double>(logits[i]);
        values[i] = logit - logit == 0 ? logit : -INFINITY;
      }
    });
    threads.meet();
    threads.run([&](int thread) {
      for (std::int64_t n = thread; n < row.offset_count; n += kDrawThreads)
        values[call.ids[row.offsets + n]] += call.amounts[row.offsets + n];
    });
    threads.meet();
    threads.run([&](int thread) {
      for (std::int64_t n = thread; n < row.seen_count; n += kDrawThreads) {
        double& value = values[call.ids[row.seen + n]];
        value = value > 0 ? value / row.repetition : value * row.repetition;
        value -= row.presence + row.frequency * call.amounts[row.seen + n];
      }
    });
    threads.meet();
  }

  RWKVX_HOST_DEVICE std::int64_t draw(const DrawRow& row) const {
    fill(row);
    const auto larger = [](double a, double b) { return a < b ? b : a; };
    const double highest = over(
        V, -INFINITY, [&](double top, int i) { return larger(top, values[i]); }, larger);
    if (highest == -INFINITY) {
      const double finite = over(
          V, 0.0, [&](double any, int i) { return logits[i] - logits[i] == 0.0f ? 1.0 : any; },
          larger);
      return finite > 0 ? kAllBanned : kNoFiniteLogit;
    }
    DrawLimit limit{draw_key(-INFINITY), -1};  // every token that is not banned
    if (row.temperature == 0) return find(limit, 1, DrawEnd::kReached, true, true).id;
    const double top = highest / row.temperature;
    threads.run([&](int thread) {
      for (int i = thread; i < V; i += kDrawThreads) {
        values[i] /= row.temperature;
        weights[i] = exp(values[i] - top);
      }
    });
    threads.meet();
    if (row.top_k > 0)
      limit = find(limit, static_cast<double>(row.top_k), DrawEnd::kReached, true, true);
    if (row.top_p < 1)
      limit = find(limit, row.top_p * sum_of_weights(limit), DrawEnd::kReached, true, false);
    if (row.min_p > 0) {
      const DrawLimit least{draw_key(top + log(row.min_p)), V};
      if (!least.has(limit.key, limit.id)) limit = least;
    }
    const double target = row.uniform * sum_of_weights(limit);
    return find(limit, target, DrawEnd::kPassed, row.top_k > 0 || row.top_p < 1, false).id;
  }

  RWKVX_HOST_DEVICE void run(std::int64_t number) const {
    const int all = static_cast<int>(call.vocab);
    const auto larger = [](double a, double b) { return a < b ? b : a; };
    const double highest = over(
        all, -INFINITY,
        [&](double top, int i) { return larger(top, static_cast<double>(logits[i])); }, larger);
    const double sum = over(
        all, 0.0,
        [&](double part, int i) {
          return part + exp(static_cast<double>(logits[i] - static_cast<float>(highest)));
        },
        [](double a, double b) { return a + b; });
    const DrawRow& row = call.settings[number];
    const std::int64_t token = row.forced >= 0 ? row.forced : draw(row);
    threads.run([&](int thread) {
      if (thread != 0) return;
      DrawResult result{0, token};
      if (token >= 0)
        result.logprob =
            static_cast<double>(logits[token] - static_cast<float>(highest)) - log(sum);
      call.results[number] = result;
    });
  }
};

// `threads`: a block of kDrawThreads (ops/cuda/lanes.h).
template <class Threads>
RWKVX_HOST_DEVICE void draw_block(const DrawCall& call, std::int64_t row, const Threads& threads,
                                  DrawShared& shared) {
  DrawBlock<Threads>{call,
                     threads,
                     shared,
                     call.logits + row * call.vocab,
                     call.values + row * call.usable,
                     call.weights + row * call.usable,
                     static_cast<int>(call.usable)}
      .run(row);
}

// Starts it on the GPU; "" or what CUDA said about the launch.
std::string launch(const DrawCall& call, CUstream_st* stream);

}  // namespace rwkvx::cuda
