// Activations as 16-bit integers, as the products with integer weights take them
// (kernels/matvec.h).
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

// q (activation_stride(N)) and scale of one vector x (N) for an integer matrix: multiplied with the
// matrix's column scales, so a small activation before a large column keeps its digits. In what
// order q holds them depends on the matrix's type and the instruction set. The scale is NaN where a
// number is NaN or infinite, and 0 where all are below 4e-34.
void quantize_activations(const WeightMatrix& matrix, const float* x, std::int16_t* q,
                          float* scale);

}  // namespace rwkvx
