// Weight rows times many rows of activations, for prompts: bound by the multiply-adds.
#pragma once

#include <cstdint>

namespace rwkvx {

// out row i, at out + i out_stride: w (M, N) times row i of a (R, N) -> (M). Rows of a and w lie
// one after the other; R, M and N may be any, N = 0 gives zeros. One thread does all of it, in
// memory of its own that grows to about R N floats and stays with the thread.
//
// Every number of out is a float32 sum over the columns in one order, whatever R, M, the place
// of its rows and the neighbors: so a product may be cut anywhere along R and M. It depends on N
// and on whether the CPU has fused multiply-adds.
void multiply_rows(const float* a, std::int64_t R, const float* w, std::int64_t M, std::int64_t N,
                   float* out, std::int64_t out_stride);

// The same with sums in float64.
void multiply_rows_reference(const float* a, std::int64_t R, const float* w, std::int64_t M,
                             std::int64_t N, float* out, std::int64_t out_stride);

}  // namespace rwkvx
