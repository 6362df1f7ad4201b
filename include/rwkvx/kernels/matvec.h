// Weight rows times a few vectors of activations, for decoding: bound by reading the weights.
#pragma once

#include <cstdint>

#include "rwkvx/kernels/weight_matrix.h"

namespace rwkvx {

// Where the sums of groups stand behind the quantized activations of an int4 matrix.
inline std::int64_t int4_groups_at(std::int64_t columns) {
  return (columns + 2 * kInt4Block - 1) / (2 * kInt4Block) * (2 * kInt4Block);
}
// Numbers of a quantized activation row: the columns, filled up with zeros to pairs of int4
// blocks, and a float per int4 group; whole pairs of cache lines.
inline std::int64_t activation_stride(std::int64_t columns) {
  const std::int64_t groups_at = int4_groups_at(columns);
  return (groups_at + 2 * groups_at / kInt4Group + 63) / 64 * 64;
}

// Activations (count, N). Integer weights are multiplied with the 16-bit form.
struct Activations {
  std::int64_t count = 0;
  const float* x = nullptr;         // (count, N)
  const std::int16_t* q = nullptr;  // (count, activation_stride(N)), made for this matrix
  const float* scale = nullptr;     // (count): x column_scales = q scale
};

// q (activation_stride(N)) and scale of one vector x (N) for an integer matrix: multiplied with the
// matrix's column scales, so a small activation before a large column keeps its digits. In what
// order q holds them depends on the matrix's type and the instruction set. The scale is NaN where a
// number is NaN or infinite, and 0 where all are below 4e-34.
void quantize_activations(const WeightMatrix& matrix, const float* x, std::int16_t* q,
                          float* scale);

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
