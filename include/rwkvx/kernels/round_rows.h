// Rows of weights to integers, and what finding their scales takes.
#pragma once

#include <cstdint>

namespace rwkvx {

// Lists of sizes have room for a multiple of so many.
inline constexpr std::int64_t kSizesUnit = 8;
inline std::int64_t room_of_sizes(std::int64_t count) {
  return (count + kSizesUnit - 1) / kSizesUnit * kSizesUnit;
}

// sizes <- |w| / columns, of `count` numbers each.
void divided_sizes(const float* w, const double* columns, std::int64_t count, double* sizes);
// The upper middle one of `count` finite sizes that are not 0; 0 where all are. Fills the list's
// room up with zeros.
double middle_size(double* sizes, std::int64_t count);

// One row to the integers of WeightMatrix. Of kInt8 the scale takes the largest weight to 127; of
// kInt4 it is the one of least squared error among some, for each group.
void round_int8_row(const float* w, std::int64_t columns, std::int8_t* q, float* scale);
void round_int4_row(const float* w, std::int64_t columns, std::uint8_t* q, std::uint16_t* scales);

// The sums of squares of x - w and of w.
struct RowError {
  double away = 0, all = 0;
};
RowError row_error(const float* x, const float* w, std::int64_t columns);

}  // namespace rwkvx
