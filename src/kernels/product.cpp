#include "rwkvx/kernels/product.h"

#include <algorithm>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/product.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on
#include <hwy/aligned_allocator.h>

#ifndef RWKVX_PRODUCT_BUFFERS
#define RWKVX_PRODUCT_BUFFERS
namespace rwkvx {
namespace {

// Aligned floats of one thread, kept from call to call.
struct ProductBuffer {
  hwy::AlignedFreeUniquePtr<float[]> floats;
  std::size_t size = 0;
  float* reserve(std::int64_t count) {
    if (static_cast<std::size_t>(count) > size) {
      size = static_cast<std::size_t>(count);
      floats = hwy::AllocateAligned<float>(size);
    }
    return floats.get();
  }
};
struct ProductBuffers {
  ProductBuffer packed, sums;
};
ProductBuffers& product_buffers() {
  thread_local ProductBuffers buffers;
  return buffers;
}

// Columns whose products are summed before the sum is added to that of the columns before them:
// rounding errors grow with the blocks rather than with the columns, and a block of the operands
// stays in the nearest caches.
constexpr std::int64_t kBlockColumns = 384;
// Weight rows that are gone through for all rows of activations before the next ones.
constexpr std::int64_t kBlockRows = 144;

}  // namespace
}  // namespace rwkvx
#endif

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using VF = hn::VFromD<F>;
constexpr std::int64_t kLanes = hn::MaxLanes(F());
// Vectors of activation rows and weight rows of the largest tile: sums, vectors and a weight fill
// the 32 registers of AVX-512 and NEON, or the 16 of the others.
constexpr int kVectors = 2;
constexpr int kRows = HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64 ? 12 : 6;
constexpr std::int64_t kPanel = kVectors * kLanes;  // activation rows side by side

#if HWY_TARGET != HWY_SCALAR
// Turns 4 rows of 4 floats.
HWY_INLINE void Turn4(const float* from, std::int64_t from_stride, float* to,
                      std::int64_t to_stride) {
  const hn::FixedTag<float, 4> d;
  const hn::Repartition<double, decltype(d)> pairs;
  const auto row0 = hn::LoadU(d, from), row1 = hn::LoadU(d, from + from_stride);
  const auto row2 = hn::LoadU(d, from + 2 * from_stride);
  const auto row3 = hn::LoadU(d, from + 3 * from_stride);
  const auto low01 = hn::BitCast(pairs, hn::InterleaveLower(d, row0, row1));
  const auto low23 = hn::BitCast(pairs, hn::InterleaveLower(d, row2, row3));
  const auto high01 = hn::BitCast(pairs, hn::InterleaveUpper(d, row0, row1));
  const auto high23 = hn::BitCast(pairs, hn::InterleaveUpper(d, row2, row3));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, low01, low23)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, low01, low23)), d, to + to_stride);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, high01, high23)), d, to + 2 * to_stride);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, high01, high23)), d, to + 3 * to_stride);
}
#endif

// from (rows, columns) to `to`, turned.
void Turn(const float* from, std::int64_t from_stride, std::int64_t rows, std::int64_t columns,
          float* to, std::int64_t to_stride) {
  constexpr std::int64_t kLine = 16;  // columns of a cache line, read whole before the next ones
  for (std::int64_t first = 0; first < columns; first += kLine) {
    const std::int64_t last = std::min(columns, first + kLine);
    std::int64_t r = 0;
#if HWY_TARGET != HWY_SCALAR
    for (; r + 4 <= rows; r += 4) {
      std::int64_t c = first;
      for (; c + 4 <= last; c += 4)
        Turn4(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
      for (; c < last; ++c)
        for (std::int64_t i = r; i < r + 4; ++i) to[c * to_stride + i] = from[i * from_stride + c];
    }
#endif
    for (; r < rows; ++r)
      for (std::int64_t c = first; c < last; ++c) to[c * to_stride + r] = from[r * from_stride + c];
  }
}

// W weight rows times S vectors of activation rows over `count` columns; the sums are added to
// sums (W, S vectors), or begin them.
template <int W, int S>
HWY_INLINE void ProductTile(const float* w, std::int64_t N, const float* packed, std::int64_t count,
                            bool begins, float* HWY_RESTRICT sums) {
  const F d;
  VF sum[W][S];
  for (int i = 0; i < W; ++i)
    for (int s = 0; s < S; ++s) sum[i][s] = hn::Zero(d);
  for (std::int64_t c = 0; c < count; ++c, packed += S * kLanes) {
    VF in[S];
    for (int s = 0; s < S; ++s) in[s] = hn::Load(d, packed + s * kLanes);
    for (int i = 0; i < W; ++i) {
      const VF weight = hn::Set(d, w[i * N + c]);
      for (int s = 0; s < S; ++s) sum[i][s] = hn::MulAdd(weight, in[s], sum[i][s]);
    }
  }
  for (int i = 0; i < W; ++i)
    for (int s = 0; s < S; ++s) {
      float* at = sums + (i * S + s) * kLanes;
      hn::Store(begins ? sum[i][s] : hn::Add(hn::Load(d, at), sum[i][s]), d, at);
    }
}

// A panel of S vectors times weight rows 0 .. M.
template <int S>
void PanelTimesRows(const float* w, std::int64_t M, std::int64_t N, const float* packed,
                    std::int64_t count, bool begins, float* sums) {
  std::int64_t m = 0;
  for (; m + kRows <= M; m += kRows)
    ProductTile<kRows, S>(w + m * N, N, packed, count, begins, sums + m * S * kLanes);
  for (; m + 4 <= M; m += 4)
    ProductTile<4, S>(w + m * N, N, packed, count, begins, sums + m * S * kLanes);
  for (; m < M; ++m) ProductTile<1, S>(w + m * N, N, packed, count, begins, sums + m * S * kLanes);
}

void MultiplyRows(const float* a, std::int64_t R, const float* w, std::int64_t M, std::int64_t N,
                  float* out, std::int64_t stride) {
  // Panels of kPanel rows; the last one has the vectors that its rows need.
  const std::int64_t padded = (R + kLanes - 1) / kLanes * kLanes;
  auto& buffers = product_buffers();
  float* packed = buffers.packed.reserve(padded * N);
  float* sums = buffers.sums.reserve(padded * std::min(M, kBlockRows));
  // A block of columns after the other, in it a panel after the other.
  for (std::int64_t first = 0; first < N; first += kBlockColumns) {
    const std::int64_t count = std::min(kBlockColumns, N - first);
    for (std::int64_t r = 0; r < R; r += kPanel) {
      const std::int64_t width = std::min(kPanel, padded - r), some = std::min(kPanel, R - r);
      float* panel = packed + padded * first + r * count;
      Turn(a + r * N + first, N, some, count, panel, width);
      for (std::int64_t c = 0; some < width && c < count; ++c)
        std::fill(panel + c * width + some, panel + (c + 1) * width, 0.0f);
    }
  }
  for (std::int64_t m = 0; m < M; m += kBlockRows) {
    const std::int64_t rows = std::min(kBlockRows, M - m);
    for (std::int64_t first = 0; first < N; first += kBlockColumns) {
      const std::int64_t count = std::min(kBlockColumns, N - first);
      for (std::int64_t r = 0; r < R; r += kPanel) {
        const float* panel = packed + padded * first + r * count;
        const auto times = padded - r >= kPanel ? PanelTimesRows<kVectors> : PanelTimesRows<1>;
        times(w + m * N + first, rows, N, panel, count, first == 0, sums + r * rows);
      }
    }
    for (std::int64_t r = 0; r < R; r += kPanel)
      Turn(sums + r * rows, std::min(kPanel, padded - r), rows, std::min(kPanel, R - r),
           out + r * stride + m, stride);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {

HWY_EXPORT(MultiplyRows);

void multiply_rows(const float* a, std::int64_t R, const float* w, std::int64_t M, std::int64_t N,
                   float* out, std::int64_t out_stride) {
  if (N > 0) return HWY_DYNAMIC_DISPATCH(MultiplyRows)(a, R, w, M, N, out, out_stride);
  for (std::int64_t r = 0; r < R; ++r) std::fill_n(out + r * out_stride, M, 0.0f);
}

void multiply_rows_reference(const float* a, std::int64_t R, const float* w, std::int64_t M,
                             std::int64_t N, float* out, std::int64_t out_stride) {
  for (std::int64_t r = 0; r < R; ++r)
    for (std::int64_t m = 0; m < M; ++m) {
      double sum = 0;
      for (std::int64_t c = 0; c < N; ++c)
        sum += static_cast<double>(a[r * N + c]) * static_cast<double>(w[m * N + c]);
      out[r * out_stride + m] = static_cast<float>(sum);
    }
}

}  // namespace rwkvx
#endif
