// What turns logits into probabilities, in float64 and in one order of sums for all instruction
// sets.
#pragma once

#include <cstdint>

namespace rwkvx {

struct Exponentials {
  double top = 0;  // the largest number; NaN is passed over; -inf of none
  double sum = 0;  // of e^(x - top); NaN where a number is
};
// The difference is taken in float32.
Exponentials sum_exponentials(const float* x, std::int64_t count);
// x <- e^(x - top).
Exponentials take_exponentials(double* x, std::int64_t count);
// Where the largest number is, the first of equal ones; NaN is passed over; -1 of none above -inf.
std::int64_t find_largest(const float* x, std::int64_t count);

}  // namespace rwkvx
