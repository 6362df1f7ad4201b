// Weight rows times a few vectors of activations, for decoding: bound by reading the weights.
#pragma once

#include <cstdint>

#include "rwkvx/kernels/quantized_activations.h"
#include "rwkvx/kernels/weight_matrix.h"

namespace rwkvx {

// Activations (count, N). Integer weights are multiplied with the 16-bit form.
struct Activations {
  std::int64_t count = 0;
  const float* x = nullptr;         // (count, N)
  const std::int16_t* q = nullptr;  // (count, activation_stride(N)), made for this matrix
  const float* scale = nullptr;     // (count): x column_scales = q scale
};

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
