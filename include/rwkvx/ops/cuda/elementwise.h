// The elementwise steps between a block's matrix products, for one number: the formulas of
// kernels/activation.h; dropout, the embedding's gradient, and int8 weights as floats. Value is
// float or Bf16; the residual stream and its gradient are float.
#pragma once

#include <string>

#include "rwkvx/ops/cuda/host_device.h"

struct CUstream_st;

namespace rwkvx::cuda {

// y = x + o.
template <class Value>
struct Residual {
  const float* x;
  const Value* o;
  float* y;
  RWKVX_HOST_DEVICE void at(std::int64_t i) const { y[i] = x[i] + load(o, i); }
};

// y = x + sigmoid(r) v.
template <class Value>
struct GatedResidual {
  const float* x;
  const Value* r;
  const Value* v;
  float* y;
  RWKVX_HOST_DEVICE void at(std::int64_t i) const {
    y[i] = fmaf(sigmoid(load(r, i)), load(v, i), x[i]);
  }
};
// dv = dy sigmoid(r), dr = dy v sigmoid(r) (1 - sigmoid(r)).
template <class Value>
struct GatedResidualAdjoint {
  const float* dy;
  const Value* r;
  const Value* v;
  Value* dr;
  Value* dv;
  RWKVX_HOST_DEVICE void at(std::int64_t i) const {
    const float x = load(r, i), through = dy[i] * sigmoid(x);
    store(dr, i, through * sigmoid(-x) * load(v, i));
    store(dv, i, through);
  }
};

// h = relu(h)^2.
template <class Value>
struct ReluSquare {
  Value* h;
  RWKVX_HOST_DEVICE void at(std::int64_t i) const {
    const float x = load(h, i), positive = x < 0.0f ? 0.0f : x;  // NaN stays
    store(h, i, positive * positive);
  }
};
// dh = 2 sqrt(h) dh.
template <class Value>
struct ReluSquareAdjoint {
  const Value* h;
  Value* dh;
  RWKVX_HOST_DEVICE void at(std::int64_t i) const {
    store(dh, i, 2.0f * sqrtf(load(h, i)) * load(dh, i));
  }
};

template <class Value>
struct Tanh {
  Value* h;
  RWKVX_HOST_DEVICE void at(std::int64_t i) const { store(h, i, tanhf(load(h, i))); }
};
template <class Value>
struct TanhAdjoint {
  const Value* h;
  Value* dh;
  RWKVX_HOST_DEVICE void at(std::int64_t i) const {
    const float y = load(h, i);
    store(dh, i, fmaf(-y, y, 1.0f) * load(dh, i));
  }
};

template <class Value>
struct Sigmoid {
  Value* h;
  RWKVX_HOST_DEVICE void at(std::int64_t i) const { store(h, i, sigmoid(load(h, i))); }
};
template <class Value>
struct SigmoidAdjoint {
  const Value* h;
  Value* dh;
  RWKVX_HOST_DEVICE void at(std::int64_t i) const {
    const float y = load(h, i);
    store(dh, i, fmaf(-y, y, y) * load(dh, i));
  }
};

// Dropout of the residual stream with the random numbers of kernels/activation.h: what is left
// depends on the key and on a number's place alone.
struct Dropout {
  float* values;
  std::int64_t first;  // the place of values[0]
  std::uint32_t key_low, key_high, threshold;
  float scale;
  // `share`: of the numbers that are dropped.
  static Dropout of(float* values, std::int64_t first, std::uint64_t key, float share) {
    return {values,
            first,
            static_cast<std::uint32_t>(key),
            static_cast<std::uint32_t>(key >> 32),
            static_cast<std::uint32_t>(static_cast<double>(share) * 4294967296.0),
            1 / (1 - share)};
  }
  RWKVX_HOST_DEVICE static std::uint32_t mixed(std::uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
  }
  RWKVX_HOST_DEVICE void at(std::int64_t i) const {
    const std::uint64_t place = static_cast<std::uint64_t>(first + i);
    const std::uint32_t start = mixed(static_cast<std::uint32_t>(place) ^ key_low) +
                                static_cast<std::uint32_t>(place >> 32);
    values[i] = mixed(start ^ key_high) < threshold ? 0.0f : values[i] * scale;
  }
};

// Weights that are held in int8 (kernels/weight_matrix.h) as floats: for number i of (rows, N),
// which are less than 2^31, as a GPU takes long to divide larger numbers.
template <class Value>
struct UnpackIntegers {
  const std::int8_t* weights;  // (rows, N)
  const float* scales;         // (rows)
  const float* column_scales;  // (N); null: all 1
  std::int64_t N;
  Value* to;  // (rows, N)
  RWKVX_HOST_DEVICE void at(std::int64_t i) const {
    const auto place = static_cast<std::uint32_t>(i), width = static_cast<std::uint32_t>(N);
    const std::uint32_t row = place / width;
    const float value = static_cast<float>(weights[i]) * scales[row];
    store(to, i, column_scales == nullptr ? value : value * column_scales[place - row * width]);
  }
};
// Then those that stay floats, of row i.
template <class Value>
struct UnpackWide {
  const std::int32_t* first;  // (rows + 1)
  const std::int32_t* columns;
  const float* values;
  std::int64_t N;
  Value* to;  // (rows, N)
  RWKVX_HOST_DEVICE void at(std::int64_t i) const {
    for (std::int32_t j = first[i]; j < first[i + 1]; ++j) store(to, i * N + columns[j], values[j]);
  }
};

// Adds the gradients of embedded tokens, (rows, C), to that of the embedding, (vocabulary, C): for
// number i of (rows, C). Tokens are sorted by id, and the first of an id adds up the rows of all,
// one after the other, so that the sum has an order.
struct EmbeddingGradient {
  const std::int64_t* ids;    // (rows), ascending
  const std::int64_t* order;  // (rows): the row that each is of; ascending where ids are equal
  const float* gradients;     // (rows, C)
  float* to;                  // (vocabulary, C)
  std::int64_t rows, C;
  RWKVX_HOST_DEVICE void at(std::int64_t i) const {
    constexpr int kAhead = 8;  // rows that are on their way from memory together
    const std::int64_t first = i / C, c = i % C, id = ids[first];
    if (first > 0 && ids[first - 1] == id) return;
    float sum = to[id * C + c];
    for (std::int64_t next = first; next < rows && ids[next] == id; next += kAhead) {
      float row[kAhead];
      RWKVX_UNROLL
      for (int j = 0; j < kAhead; ++j)
        row[j] = next + j < rows && ids[next + j] == id ? gradients[order[next + j] * C + c] : 0.0f;
      RWKVX_UNROLL
      for (int j = 0; j < kAhead; ++j) sum += row[j];
    }
    to[id * C + c] = sum;
  }
};

// at(i) for i of 0 .. count.
template <class Step>
struct Elementwise {
  Step step;
  std::int64_t count;
};

// Starts it on the GPU: pointers are the device's, the work is queued on `stream`. "" or what CUDA
// said about the launch. There for every step above, with float and with Bf16 where it has a Value.
template <class Step>
std::string launch(const Elementwise<Step>& call, CUstream_st* stream);

}  // namespace rwkvx::cuda
