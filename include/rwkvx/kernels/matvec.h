// Weight rows times a few vectors of activations, for decoding: bound by reading the weights.
#pragma once

#include <cstdint>

#include "rwkvx/kernels/weight_matrix.h"

namespace rwkvx {

// Numbers of a quantized activation row: the columns, filled up with zeros to whole int4 blocks.
inline std::int64_t activation_stride(std::int64_t columns) {
  return (columns + kInt4Block - 1) / kInt4Block * kInt4Block;
}

// Activations (count, N). Integer weights are multiplied with the 16-bit form.
struct Activations {
  std::int64_t count = 0;
  const float* x = nullptr;         // (count, N)
  const std::int16_t* q = nullptr;  // (count, activation_stride(N))
  const float* scale = nullptr;     // (count): x column_scales = q scale
};

// q (activation_stride(N)) and scale of one vector, multiplied with the column scales (N) of the
// matrix that it meets, null for none: so a small activation before a large column keeps its
// digits. The scale is NaN where a number is NaN or infinite, and 0 where all are below 4e-34.
void quantize_activations(const float* x, const float* column_scales, std::int64_t columns,
                          std::int16_t* q, float* scale);

// y[i * stride + row] <- W[row] . x_i for rows [first, last). What a row and a vector give does not
// depend on the other rows and vectors of the call.
void matvec_rows(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                 const Activations& activations, float* y, std::int64_t stride);

// The same from the definition, in float64 and with the activations as floats.
void matvec_rows_reference(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                           const Activations& activations, float* y, std::int64_t stride);

// Sums the bytes, to measure how fast memory can be read.
std::uint64_t read_bytes(const std::byte* from, std::int64_t count);

}  // namespace rwkvx
