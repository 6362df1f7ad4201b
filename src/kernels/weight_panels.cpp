#include "rwkvx/kernels/weight_panels.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/weight_panels.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on
#include "kernels/panel_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
namespace {

HWY_INLINE VU Load32(const std::byte* from) {
  return hn::LoadU(U32(), reinterpret_cast<const std::uint32_t*>(from));
}
// The byte of each lane that kLeft bytes are left of, as a number with a sign.
template <int kLeft>
HWY_INLINE VF SignedByte(VU bytes) {
  const auto high = hn::BitCast(I32(), hn::ShiftLeft<8 * kLeft>(bytes));
  return hn::ConvertTo(F(), hn::ShiftRight<24>(high));
}

// The rows from r on of the panel `at`, as many as a vector has, column after column:
// to[c * kPanelRows].
void UnpackF32(const std::byte* at, std::int64_t r, std::int64_t columns, float* to) {
  for (std::int64_t c = 0; c < columns; ++c)
    hn::StoreU(hn::BitCast(F(), Load32(at + 64 * c + 4 * r)), F(), to + c * kPanelRows);
}
void UnpackBf16(const std::byte* at, std::int64_t r, std::int64_t columns, float* to) {
  const auto high = hn::Set(U32(), 0xffff0000u);
  for (std::int64_t c = 0; c < columns; c += 2) {
    const auto both = Load32(at + 32 * c + 4 * r);
    hn::StoreU(FromBf16(both), F(), to + c * kPanelRows);
    hn::StoreU(hn::BitCast(F(), hn::And(both, high)), F(), to + (c + 1) * kPanelRows);
  }
}
void UnpackInt8(const std::byte* at, std::int64_t r, std::int64_t columns, float* to) {
  const VF scale = hn::BitCast(F(), Load32(at + 4 * r));
  at += 64;
  for (std::int64_t c = 0; c < columns; c += 4) {
    const auto four = Load32(at + 16 * c + 4 * r);
    const VF w[4] = {SignedByte<3>(four), SignedByte<1>(four), SignedByte<2>(four),
                     SignedByte<0>(four)};
    for (std::int64_t i = 0; i < std::min<std::int64_t>(4, columns - c); ++i)
      hn::StoreU(hn::Mul(w[i], scale), F(), to + (c + i) * kPanelRows);
  }
}
void UnpackInt4(const std::byte* at, std::int64_t r, std::int64_t columns, float* to) {
  const auto digit = hn::Set(U32(), 0xfu);
  const auto eight = hn::Set(F(), 8.0f);
  for (std::int64_t c = 0; c < columns; at += kInt4PanelBlock) {
    for (std::int64_t group = 0; group < 2; ++group) {
      const auto* scales = reinterpret_cast<const std::uint16_t*>(at + kInt4PanelScales);
      const VF scale = LoadBf16(scales + group * kPanelRows + r);
      for (std::int64_t line = 0; line < kInt4Group / 4; ++line) {
        auto bytes = Load32(at + 64 * line + 4 * r);
        if (group == 1) bytes = hn::ShiftRight<4>(bytes);
        for (std::int64_t i = 0; i < 4 && c < columns; ++i, ++c) {
          const auto value = hn::ConvertTo(F(), hn::BitCast(I32(), hn::And(bytes, digit)));
          hn::StoreU(hn::Mul(hn::Sub(value, eight), scale), F(), to + c * kPanelRows);
          bytes = hn::ShiftRight<8>(bytes);
        }
      }
    }
  }
}

void UnpackPanel(const WeightMatrix& matrix, std::int64_t panel, float* out) {
  const std::int64_t N = matrix.columns;
  const std::byte* at = matrix.values + panel * panel_bytes(matrix.type, N);
  const auto unpack = [&] {
    switch (matrix.type) {
      case WeightType::kF32:
        return UnpackF32;
      case WeightType::kBF16:
        return UnpackBf16;
      case WeightType::kInt8:
        return UnpackInt8;
      case WeightType::kInt4:
        break;
    }
    return UnpackInt4;
  }();
  for (std::int64_t r = 0; r < kPanelRows; r += kLanes) unpack(at, r, N, out + r);
  if (matrix.column_scales == nullptr) return;
  for (std::int64_t c = 0; c < N; ++c) {
    const VF scale = hn::Set(F(), matrix.column_scales[c]);
    float* column = out + c * kPanelRows;
    for (std::int64_t r = 0; r < kPanelRows; r += kLanes)
      hn::StoreU(hn::Mul(hn::LoadU(F(), column + r), scale), F(), column + r);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {
namespace {

// Puts 4 bytes into a panel: those of column `unit`, or of the columns that share them, and row r.
void put(std::byte* panel, std::int64_t unit, std::int64_t r, std::uint32_t value) {
  std::memcpy(panel + 4 * (unit * kPanelRows + r), &value, sizeof value);
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

}  // namespace

HWY_EXPORT(UnpackPanel);

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
  HWY_DYNAMIC_DISPATCH(UnpackPanel)(panels, panel, out);
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
#endif
