// Weight matrices times vectors of activations.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rwkvx/kernels/quantized_activations.h"
#include "rwkvx/kernels/weight_panels.h"

namespace rwkvx {

// Activations (count, N). Integer weights are multiplied with their quantized form.
struct Activations {
  std::int64_t count = 0;
  const float* x = nullptr;              // (count, N)
  const std::byte* quantized = nullptr;  // (count, QuantizedLayout::bytes), made for this matrix
  // Where the weights lie that are read after these; null: behind them.
  const std::byte* next = nullptr;
};

// y[i * stride + row] <- W[row] . x_i for rows [first, last) of a matrix in panels; `first` begins
// one. A few vectors are bound by reading the weights, many by the multiplications.
//
// Every number of y is a sum over the columns in one order, whatever the other rows and vectors of
// the call, so a product may be cut anywhere between panels and vectors. Where the CPU has fused
// multiply-adds, it does not depend on the instruction set either.
void multiply_panels(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                     const Activations& activations, float* y, std::int64_t stride);

// The same from the definition, in float64.
void multiply_panels_reference(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                               const float* x, std::int64_t count, float* y, std::int64_t stride);

// Sums the bytes, to measure how fast memory can be read.
std::uint64_t read_bytes(const std::byte* from, std::int64_t count);

}  // namespace rwkvx
