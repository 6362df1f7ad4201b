// Weight matrices in the order in which products read them.
#pragma once

#include <cstdint>

#include "rwkvx/kernels/aligned_buffer.h"
#include "rwkvx/kernels/weight_matrix.h"

namespace rwkvx {

// Panels of so many rows follow each other, the last one filled up with zeros. What a panel holds
// of one column, or of a few, stands side by side, so that a vector holds numbers of different
// rows: nothing is summed across a vector, and what a row gives does not depend on the vectors'
// length.
//   kF32   columns (16 rows), filled up to an even number
//   kBF16  pairs of columns (16 rows, 2)
//   kInt8  the rows' scales (16 floats), then four columns each (16 rows, 4), of which the second
//          and the third are exchanged, so that every other byte belongs to two columns in turn
//   kInt4  for 64 columns each: eight times four columns of both groups (16 rows, 4 bytes), the
//          first group's in the low halves, then the scales (2 groups, 16 rows)
inline constexpr std::int64_t kPanelRows = 16;
// Bytes of 64 columns of kInt4, and where their scales begin.
inline constexpr std::int64_t kInt4PanelBlock = 576, kInt4PanelScales = 512;

inline std::int64_t panel_count(std::int64_t rows) { return (rows + kPanelRows - 1) / kPanelRows; }
// Of one panel: whole cache lines.
std::int64_t panel_bytes(WeightType type, std::int64_t columns);

// Panels [first, last) of a matrix that lies row after row.
void pack_panels(const WeightMatrix& matrix, std::int64_t first, std::int64_t last, std::byte* to);

// A panel of any type as one of kF32, with column scales and wide weights in it: out
// (panel_bytes(kF32, columns) / 4).
void unpack_panel(const WeightMatrix& panels, std::int64_t panel, float* out);

// The matrix in panels, with their memory.
struct PanelMatrix {
  explicit PanelMatrix(const WeightMatrix& matrix);
  AlignedBuffer<std::byte> memory;
  WeightMatrix view;
};

}  // namespace rwkvx
