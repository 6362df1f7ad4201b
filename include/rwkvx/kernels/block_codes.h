// Optimizer moments in 8 bits: blocks of numbers with a scale each, after Dettmers et al., 8-bit
// Optimizers via Block-wise Quantization (arXiv 2110.02861).
//
// The codes are powers of 2^(1/8) below the scale, and 0. Where theirs rounds to the nearest code,
// ours draws between the two neighbors so that the mean is exact: beta2 = 0.99 moves a second
// moment by less than a code per step, and the nearest one would never be left. The scale is a
// power of two, so that a block whose largest number changes keeps its codes. What is drawn depends
// on `key` and the place in the block alone.
#pragma once

#include <cstdint>

namespace rwkvx {

inline constexpr std::int64_t kCodeBlock = 256;  // numbers of a block; the last one may have fewer

// Numbers of any sign: 127 sizes over 15.75 octaves each way.
void encode_signed(const float* x, std::int64_t count, std::uint64_t key, std::uint8_t* codes,
                   float* scale);
void decode_signed(const std::uint8_t* codes, float scale, std::int64_t count, float* x);

// Numbers >= 0: 255 sizes over 31.75 octaves. What is smaller, but not 0, becomes the smallest: a
// second moment that turned 0 beside a first one that is not would make a step without bounds.
void encode_positive(const float* x, std::int64_t count, std::uint64_t key, std::uint8_t* codes,
                     float* scale);
void decode_positive(const std::uint8_t* codes, float scale, std::int64_t count, float* x);

}  // namespace rwkvx
