// Weights to types with fewer bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "rwkvx/kernels/weight_matrix.h"

namespace rwkvx {

// A matrix that was rounded to another type, with its memory.
struct RoundedMatrix {
  std::vector<std::byte> values, scales;
  std::vector<float> column_scales;
  std::vector<std::int32_t> wide_first, wide_columns;
  std::vector<float> wide_values;
  WeightMatrix view;
  // Columns whose scale is more than 4 times or less than a quarter of the middle one.
  std::int64_t outlier_columns = 0;
  // The root of the mean over the rows of |w' - w|^2 / |w|^2, wide weights left out, columns
  // divided by their scales: the error of an output where every column's share in it is alike.
  double relative_error = 0;
};

// Rounds W (rows, columns) to the nearest. kF32 copies. The integer types first divide each column
// by what is usual in it, the rows being compared by what is usual in them; a model that multiplies
// a column and divides what meets it (the row of another matrix, a norm's weight) by any number
// gets the same integers. What still is an outlier then stays wide, at most one weight of 256. Of
// the rest kInt8 goes by the largest of a row, kInt4 by the scale of least squared error among
// some. All weights are finite.
RoundedMatrix round_matrix(const float* values, std::int64_t rows, std::int64_t columns,
                           WeightType type);

}  // namespace rwkvx
