// Cross-entropy of rows of logits, which become their own gradients, for the threads of one block:
// one row. See cross_entropy_row() of kernels/activation.h.
#pragma once

#include <string>

#include "rwkvx/ops/cuda/lanes.h"

struct CUstream_st;

namespace rwkvx::cuda {

template <class Value>
struct CrossEntropyCall {
  std::int64_t rows, vocab;
  std::int64_t stride;          // of a row of logits, >= vocab; what is beyond the vocabulary is
                                // not read, and its gradient is 0
  Value* logits;                // (rows, stride) <- gradients times scale and weight
  const std::int64_t* targets;  // (rows)
  const float* weights;         // (rows), of the losses; null: all 1
  float scale;                  // 0: losses alone
  float l2wrap;                 // times the largest logit, added at its place
  double* losses;               // (rows) <- weight * loss
};

constexpr int kCrossEntropyThreads = 256;
struct CrossEntropyShared {
  float top[kCrossEntropyThreads];
  int place[kCrossEntropyThreads];
  double sum[kCrossEntropyThreads];
};

// `threads`: a block of kCrossEntropyThreads (ops/cuda/lanes.h).
template <class Value, class Threads>
RWKVX_HOST_DEVICE void cross_entropy_block(const CrossEntropyCall<Value>& call, std::int64_t row,
                                           const Threads& threads, CrossEntropyShared& shared) {
  Value* logits = call.logits + row * call.stride;
  const int V = static_cast<int>(call.vocab);
  threads.run([&](int thread) {
    float top = -INFINITY;
    int place = V;
    for (int i = thread; i < V; i += kCrossEntropyThreads) {
      const float x = load(logits, i);
      if (x > top) top = x, place = i;
    }
    shared.top[thread] = top;
    shared.place[thread] = place;
  });
  for (int half = kCrossEntropyThreads / 2; half > 0; half /= 2) {
    threads.meet();
    threads.run([&](int thread) {
      if (thread >= half) return;
      const float other = shared.top[thread + half];
      const int place = shared.place[thread + half];
      if (other > shared.top[thread] ||
          (other == shared.top[thread] && place < shared.place[thread]))
        shared.top[thread] = other, shared.place[thread] = place;
    });
  }
  threads.meet();
  threads.run([&](int thread) {
    const float top = shared.top[0];
    double sum = 0;
    for (int i = thread; i < V; i += kCrossEntropyThreads)
      sum += static_cast<double>(expf(load(logits, i) - top));  // of NaN: NaN
    shared.sum[thread] = sum;
  });
  for (int half = kCrossEntropyThreads / 2; half > 0; half /= 2) {
    threads.meet();
    threads.run([&](int thread) {
      if (thread < half) shared.sum[thread] += shared.sum[thread + half];
    });
  }
  threads.meet();
  const int target = static_cast<int>(call.targets[row]);
  const float weight = call.weights == nullptr ? 1.0f : call.weights[row];
  threads.run([&](int thread) {
    if (thread == 0)
      call.losses[row] =
          static_cast<double>(weight) * (log(shared.sum[0]) + static_cast<double>(shared.top[0]) -
                                         static_cast<double>(load(logits, target)));
  });
  if (call.scale == 0.0f) return;
  threads.meet();  // the target's logit has been read
  threads.run([&](int thread) {
    const float top = shared.top[0], scale = call.scale * weight;
    const float factor = static_cast<float>(static_cast<double>(scale) / shared.sum[0]);
    for (int i = thread; i < call.stride; i += kCrossEntropyThreads) {
      float gradient = 0.0f;
      if (i < V) {
        gradient = expf(load(logits, i) - top) * factor;
        if (i == target) gradient -= scale;
        if (call.l2wrap != 0.0f && i == shared.place[0])
          gradient = fmaf(scale * call.l2wrap, top, gradient);
      }
      store(logits, i, gradient);
    }
  });
}

// Starts it on the GPU; "" or what CUDA said about the launch.
std::string launch(const CrossEntropyCall<float>& call, CUstream_st* stream);
std::string launch(const CrossEntropyCall<Bf16>& call, CUstream_st* stream);

}  // namespace rwkvx::cuda
