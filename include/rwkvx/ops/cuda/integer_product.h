// Rows times a matrix held in int8 (kernels/weight_matrix.h), for the lanes of a warp: a few
// outputs of a few rows, for which every weight is read once. For decoding, where reading weights
// is what takes the time.
#pragma once

#include <string>

#include "rwkvx/ops/cuda/lanes.h"

struct CUstream_st;

namespace rwkvx::cuda {

template <class Value>
struct IntegerProductCall {
  std::int64_t rows, outputs, inputs;
  const std::int8_t* weights;  // (outputs, inputs)
  const float* scales;         // (outputs)
  const float* column_scales;  // (inputs); null: all 1
  // Weights that stay floats; see WideWeights. Null: there are none.
  const std::int32_t* wide_first;
  const std::int32_t* wide_columns;
  const float* wide_values;
  const Value* x;  // (rows, inputs)
  Value* y;        // (rows, outputs)
};

constexpr int kProductRows = 8, kProductOutputs = 4, kProductInputs = 4;

template <class Value>
RWKVX_HOST_DEVICE std::int64_t integer_product_tasks(const IntegerProductCall<Value>& call) {
  return (call.rows + kProductRows - 1) / kProductRows *
         ((call.outputs + kProductOutputs - 1) / kProductOutputs);
}

// kProductInputs weights, at a multiple of as many bytes, as floats.
RWKVX_HOST_DEVICE void load_weights(const std::int8_t* weights, float* values) {
  std::uint32_t bits = 0;
  memcpy(&bits, __builtin_assume_aligned(weights, kProductInputs), sizeof bits);
  bits ^= 0x80808080u;  // q + 128
  RWKVX_UNROLL
  for (int j = 0; j < kProductInputs; ++j) {
    // 2^23 + (q + 128) has these bits; turning integers into floats is slower on GPUs.
    const std::uint32_t whole = 0x4b000000u | (bits >> (8 * j) & 0xffu);
    float value;
    memcpy(&value, &whole, sizeof value);
    values[j] = value - 8388736.0f;
  }
}

template <class Value, class Lanes>
RWKVX_HOST_DEVICE void integer_product_task(const IntegerProductCall<Value>& call,
                                            std::int64_t task, const Lanes& lanes) {
  const std::int64_t groups = (call.outputs + kProductOutputs - 1) / kProductOutputs,
                     N = call.inputs, m = task % groups * kProductOutputs,
                     row = task / groups * kProductRows;
  const bool whole = N % kProductInputs == 0;  // all rows begin and end with whole words
  float sums[kProductRows][kProductOutputs] = {};
  for (std::int64_t n = lanes.index() * kProductInputs; n < N;
       n += Lanes::kCount * kProductInputs) {
    float w[kProductOutputs][kProductInputs] = {}, column[kProductInputs];
    RWKVX_UNROLL
    for (int j = 0; j < kProductInputs; ++j)
      column[j] = n + j >= N                      ? 0.0f
                  : call.column_scales == nullptr ? 1.0f
                                                  : call.column_scales[n + j];
    RWKVX_UNROLL
    for (int o = 0; o < kProductOutputs; ++o) {
      if (m + o >= call.outputs) continue;
      const std::int8_t* own = call.weights + (m + o) * N + n;
      if (whole) {
        load_weights(own, w[o]);
      } else {
        RWKVX_UNROLL
        for (int j = 0; j < kProductInputs; ++j)
          if (n + j < N) w[o][j] = static_cast<float>(own[j]);
      }
    }
    RWKVX_UNROLL
    for (int r = 0; r < kProductRows; ++r) {
      if (row + r >= call.rows) continue;
      float x[kProductInputs];
      RWKVX_UNROLL
      for (int j = 0; j < kProductInputs; ++j)
        x[j] = n + j < N ? load(call.x, (row + r) * N + n + j) * column[j] : 0.0f;
      RWKVX_UNROLL
      for (int o = 0; o < kProductOutputs; ++o) {
        RWKVX_UNROLL
        for (int j = 0; j < kProductInputs; ++j) sums[r][o] = fmaf(w[o][j], x[j], sums[r][o]);
      }
    }
  }
  RWKVX_UNROLL
  for (int r = 0; r < kProductRows; ++r) {
    RWKVX_UNROLL
    for (int o = 0; o < kProductOutputs; ++o) {
      if (row + r >= call.rows || m + o >= call.outputs) continue;
      float sum = lanes.sum(sums[r][o]) * call.scales[m + o];
      if (!lanes.first()) continue;
      if (call.wide_first != nullptr)
        for (std::int32_t i = call.wide_first[m + o]; i < call.wide_first[m + o + 1]; ++i)
          sum = fmaf(call.wide_values[i], load(call.x, (row + r) * N + call.wide_columns[i]), sum);
      store(call.y, (row + r) * call.outputs + m + o, sum);
    }
  }
}

// Starts it on the GPU; "" or what CUDA said about the launch.
std::string launch(const IntegerProductCall<float>& call, CUstream_st* stream);
std::string launch(const IntegerProductCall<Bf16>& call, CUstream_st* stream);

}  // namespace rwkvx::cuda
