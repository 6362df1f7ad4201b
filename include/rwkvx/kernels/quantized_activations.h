// Activations as integers, as the products with integer weights take them (kernels/product.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "rwkvx/kernels/weight_matrix.h"

namespace rwkvx {

// One vector x (N) for a matrix of these weights and columns, multiplied with the matrix's column
// scales, so a small activation before a large column keeps its digits. Padding is zeros.
//   kInt8  16-bit integers q with one scale: their error is far below that of the weights
//   kInt4  8-bit integers q with a scale for each kInt4Group of columns, as the weights have;
//          their error is a tenth of the weights' or less
// A scale is NaN where a number that it stands for is NaN or infinite, and 0 where all of them are
// below kLeastActivation.
struct QuantizedLayout {
  std::int64_t scales = 0;  // bytes from the first q to the scales, floats
  std::int64_t starts = 0;  // and to an int32 per group: -8 times the sum of its q
  std::int64_t bytes = 0;   // of all, whole cache lines
  QuantizedLayout(WeightType type, std::int64_t columns);
};

// The largest number of a scale whose numbers count as 0: a part of it is no normal number.
inline constexpr float kLeastActivation = 4e-34f;

// to (QuantizedLayout::bytes), on a cache line.
void quantize_activations(const WeightMatrix& matrix, const float* x, std::byte* to);

}  // namespace rwkvx
