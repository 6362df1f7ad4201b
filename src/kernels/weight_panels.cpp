#include "rwkvx/kernels/weight_panels.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace rwkvx {
namespace {

// Puts 4 bytes into a panel: those of column `unit`, or of the columns that share them, and row r.
void put(std::byte* panel, std::int64_t unit, std::int64_t r, std::uint32_t value) {
  std::memcpy(panel + 4 * (unit * kPanelRows + r), &value, sizeof value);
}

// And takes them out.
std::uint32_t get(const std::byte* panel, std::int64_t unit, std::int64_t r) {
  std::uint32_t value;
  std::memcpy(&value, panel + 4 * (unit * kPanelRows + r), sizeof value);
  return value;
}

// The four bytes at `from`, the first in the lowest place; zeros for those beyond `left`.
std::uint32_t load(const std::byte* from, std::int64_t left) {
  std::uint32_t bytes = 0;
  if (left >= 4)
    std::memcpy(&bytes, from, sizeof bytes);
  else
    std::memcpy(&bytes, from, static_cast<std::size_t>(left));
  return bytes;
}

// Columns [first, last) of row r of a matrix to row `to` of a panel, which is filled with zeros.
// Ranges begin at whole blocks of int4.
void pack_row(const WeightMatrix& matrix, std::int64_t r, std::int64_t first, std::int64_t last,
              std::int64_t to, std::byte* panel) {
  const std::byte* row = matrix.values + r * matrix.row_bytes();
  const std::byte* scales = matrix.scales + r * matrix.row_scale_bytes();
  switch (matrix.type) {
    case WeightType::kF32:
      for (std::int64_t c = first; c < last; ++c) put(panel, c, to, load(row + 4 * c, 4));
      break;
    case WeightType::kBF16:
      for (std::int64_t c = first; c < last; c += 2)
        put(panel, c / 2, to, load(row + 2 * c, 2 * (last - c)));
      break;
    case WeightType::kInt8:
      if (first == 0) put(panel, 0, to, load(scales, 4));
      for (std::int64_t c = first; c < last; c += 4) {
        const auto four = load(row + c, last - c);
        put(panel, 1 + c / 4, to,
            (four & 0xff0000ffu) | (four & 0xff00u) << 8 | (four >> 8 & 0xff00u));
      }
      break;
    case WeightType::kInt4:
      for (std::int64_t block = first / kInt4Block; block * kInt4Block < last; ++block) {
        std::byte* at = panel + block * kInt4PanelBlock;
        for (std::int64_t line = 0; line < kInt4Group / 4; ++line)
          put(at, line, to, load(row + block * (kInt4Block / 2) + 4 * line, 4));
        for (std::int64_t group = 0; group < 2; ++group)
          std::memcpy(at + kInt4PanelScales + 2 * (group * kPanelRows + to),
                      scales + 2 * (2 * block + group), 2);
      }
      break;
  }
}

// Column c of row r, without its column's scale.
float unpack(const std::byte* panel, WeightType type, std::int64_t c, std::int64_t r) {
  switch (type) {
    case WeightType::kF32:
      return std::bit_cast<float>(get(panel, c, r));
    case WeightType::kBF16: {
      const auto both = get(panel, c / 2, r);
      return std::bit_cast<float>(c % 2 == 0 ? both << 16 : both & 0xffff0000u);
    }
    case WeightType::kInt8: {
      constexpr int kPlaces[] = {0, 2, 1, 3};  // as pack_row() has them
      const auto four = get(panel, 1 + c / 4, r);
      return static_cast<float>(static_cast<std::int8_t>(four >> 8 * kPlaces[c % 4])) *
             std::bit_cast<float>(get(panel, 0, r));
    }
    case WeightType::kInt4:
      break;
  }
  const std::byte* block = panel + c / kInt4Block * kInt4PanelBlock;
  const std::int64_t group = c % kInt4Block / kInt4Group, place = c % kInt4Group;
  const auto digit = get(block, place / 4, r) >> (8 * (place % 4) + 4 * group) & 0xfu;
  std::uint16_t scale;
  std::memcpy(&scale, block + kInt4PanelScales + 2 * (group * kPanelRows + r), sizeof scale);
  return (static_cast<float>(digit) - 8) * std::bit_cast<float>(std::uint32_t{scale} << 16);
}

}  // namespace

std::int64_t panel_bytes(WeightType type, std::int64_t columns) {
  const auto units = [&](std::int64_t size) { return (columns + size - 1) / size; };
  switch (type) {
    case WeightType::kF32:
      return 128 * units(2);
    case WeightType::kBF16:
      return 64 * units(2);
    case WeightType::kInt8:
      return 64 + 64 * units(4);
    case WeightType::kInt4:
      return kInt4PanelBlock * units(kInt4Block);
  }
  return 0;
}

void pack_panels(const WeightMatrix& matrix, std::int64_t first, std::int64_t last, std::byte* to) {
  const std::int64_t bytes = panel_bytes(matrix.type, matrix.columns);
  for (std::int64_t p = first; p < last; ++p, to += bytes) {
    const std::int64_t rows = std::min(kPanelRows, matrix.rows - p * kPanelRows);
    if (rows < kPanelRows || matrix.columns % kInt4Block != 0)
      std::memset(to, 0, static_cast<std::size_t>(bytes));
    // So many columns at a time that the panel's part stays in the nearest cache.
    constexpr std::int64_t kColumns = 256;
    for (std::int64_t c = 0; c < matrix.columns; c += kColumns)
      for (std::int64_t r = 0; r < rows; ++r)
        pack_row(matrix, p * kPanelRows + r, c, std::min(matrix.columns, c + kColumns), r, to);
  }
}

void unpack_panel(const WeightMatrix& panels, std::int64_t panel, float* out) {
  const std::int64_t N = panels.columns;
  const std::byte* at = panels.values + panel * panel_bytes(panels.type, N);
  for (std::int64_t c = 0; c < N; ++c)
    for (std::int64_t r = 0; r < kPanelRows; ++r) {
      float& one = out[c * kPanelRows + r] = unpack(at, panels.type, c, r);
      if (panels.column_scales != nullptr) one *= panels.column_scales[c];
    }
  if (panels.wide.first == nullptr) return;
  const std::int64_t first = panel * kPanelRows, last = std::min(panels.rows, first + kPanelRows);
  for (std::int64_t row = first; row < last; ++row)
    for (auto i = panels.wide.first[row]; i < panels.wide.first[row + 1]; ++i)
      out[panels.wide.columns[i] * kPanelRows + row - first] = panels.wide.values[i];
}

PanelMatrix::PanelMatrix(const WeightMatrix& matrix) : view(matrix) {
  const std::int64_t count = panel_count(matrix.rows);
  memory.reserve(count * panel_bytes(matrix.type, matrix.columns));
  pack_panels(matrix, 0, count, memory.get());
  view.values = memory.get();
  view.scales = nullptr;
  view.panels = true;
}

}  // namespace rwkvx
