#include "rwkvx/kernels/product.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "rwkvx/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/product.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on
#include "kernels/panel_kernels-inl.h"
#include "rwkvx/kernels/aligned_buffer.h"

#ifndef RWKVX_PRODUCT_BUFFERS
#define RWKVX_PRODUCT_BUFFERS
namespace rwkvx {
namespace {

// Of one thread, kept from call to call.
AlignedBuffer<float>& product_sums() {
  thread_local AlignedBuffer<float> sums;
  return sums;
}

}  // namespace
}  // namespace rwkvx
#endif

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR  // which has none of the kernels

// Bytes that a few multiplications may ask for ahead: more of them hold up other reads, and the CPU
// does better when left alone.
constexpr std::int64_t kMostAhead = 2 * kLine;

// Where the results of a call go: rows [.., last) of y.
struct Results {
  float* y;
  std::int64_t stride, last;

  // Those of vector i and the rows from `row` on.
  HWY_INLINE void Put(std::int64_t i, std::int64_t row, VF values) const {
    float* to = y + i * stride + row;
    if (row + kLanes <= last) return hn::StoreU(values, F(), to);
    HWY_ALIGN float all[kLanes];
    hn::Store(values, F(), all);
    for (std::int64_t r = 0; row + r < last; ++r) to[r] = all[r];
  }
};

// P panels, the first of which has rows from `row` on and the others `apart` rows later each, times
// one vector.
template <int P, class Kernel>
HWY_NOINLINE void PanelsTimesOne(const Kernel& kernel, const Panels& panels, std::int64_t columns,
                                 std::int64_t row, std::int64_t apart, const Results& results) {
  constexpr int V = P * kParts;
  constexpr std::int64_t kDistance = 2048;  // in which the memory has come
  Ahead<P> ahead{panels.first + kDistance, Kernel::kTurnBytes, panels.stride};
  VF totals[V][1];
  for (std::int64_t c = 0; c < columns; c += Kernel::kColumns) {
    VF sums[V][1];
    kernel.template Part<P, 1>(panels, 0, c, std::min(columns, c + Kernel::kColumns), sums, ahead);
    for (int v = 0; v < V; ++v)
      totals[v][0] = c == 0 ? sums[v][0] : hn::Add(totals[v][0], sums[v][0]);
  }
  for (int v = 0; v < V; ++v)
    results.Put(
        0, row + v / kParts * apart + v % kParts * kLanes,
        kernel.Finish(panels.first + v / kParts * panels.stride, v % kParts, 0, totals[v][0]));
}

// A part of the columns of P panels and S vectors from i on; their sums lie in
// all (vectors, vectors of rows).
template <int P, int S, class Kernel, class A>
HWY_NOINLINE void Tile(const Kernel& kernel, const Panels& panels, std::int64_t i, std::int64_t c,
                       std::int64_t end, float* all, A& ahead) {
  constexpr int V = P * kParts;
  VF sums[V][S];
  kernel.template Part<P, S>(panels, i, c, end, sums, ahead);
  for (int s = 0; s < S; ++s)
    for (int v = 0; v < V; ++v) {
      float* sum = all + ((i + s) * V + v) * kLanes;
      hn::Store(c == 0 ? sums[v][s] : hn::Add(hn::Load(F(), sum), sums[v][s]), F(), sum);
    }
}
template <int P, int S, class Kernel, class A>
HWY_INLINE void TileOf(std::int64_t some, const Kernel& kernel, const Panels& panels,
                       std::int64_t i, std::int64_t c, std::int64_t end, float* all, A& ahead) {
  if (some == S) return Tile<P, S>(kernel, panels, i, c, end, all, ahead);
  if constexpr (S > 1) TileOf<P, S - 1>(some, kernel, panels, i, c, end, all, ahead);
}

// P panels with rows from `row` on times all vectors.
template <int P, class Kernel, class A>
void PanelsTimesAll(const Kernel& kernel, const Panels& panels, std::int64_t columns,
                    std::int64_t count, A ahead, float* all, std::int64_t row,
                    const Results& results) {
  constexpr int V = P * kParts;
  constexpr std::int64_t S = Kernel::kTileVectors;
  const std::int64_t tiles = (count + S - 1) / S;
  for (std::int64_t c = 0; c < columns; c += Kernel::kColumns) {
    const std::int64_t end = std::min(columns, c + Kernel::kColumns);
    for (std::int64_t t = 0; t < tiles; ++t) {
      const std::int64_t i = count * t / tiles, some = count * (t + 1) / tiles - i;
      TileOf<P, S>(some, kernel, panels, i, c, end, all, ahead);
    }
  }
  for (std::int64_t i = 0; i < count; ++i)
    for (int v = 0; v < V; ++v)
      results.Put(i, row + v * kLanes,
                  kernel.Finish(panels.first + v / kParts * panels.stride, v % kParts, i,
                                hn::Load(F(), all + (i * V + v) * kLanes)));
}

// Panels first .. last times one vector.
template <class Kernel>
void MultiplyOne(const Kernel& kernel, const WeightMatrix& matrix, std::int64_t first,
                 std::int64_t last, const Results& results) {
  constexpr int P = Kernel::kOnePanels;
  const std::int64_t N = matrix.columns, bytes = panel_bytes(matrix.type, N);
  const std::byte* at = matrix.values;
  // Each of P parts of the panels is gone through from its beginning to its end, side by side: long
  // streams, which the CPU reads ahead of.
  const std::int64_t part = (last - first) / P;
  for (std::int64_t panel = first; panel < first + part; ++panel)
    PanelsTimesOne<P>(kernel, {at + panel * bytes, part * bytes}, N, panel * kPanelRows,
                      part * kPanelRows, results);
  for (std::int64_t panel = first + P * part; panel < last; ++panel)
    PanelsTimesOne<1>(kernel, {at + panel * bytes, 0}, N, panel * kPanelRows, 0, results);
}

// The same times several vectors.
template <class Kernel>
void MultiplySeveral(const Kernel& kernel, const WeightMatrix& matrix, std::int64_t first,
                     std::int64_t last, const Activations& in, const Results& results) {
  constexpr int P = Kernel::kTilePanels;
  const std::int64_t count = in.count, N = matrix.columns, bytes = panel_bytes(matrix.type, N);
  auto& sums = product_sums();
  sums.reserve(count * P * kPanelRows);
  float* all = sums.get();
  const std::int64_t tiles = (count + Kernel::kTileVectors - 1) / Kernel::kTileVectors;
  const auto multiply = [&](auto some, std::int64_t panel) HWY_ATTR {
    const Panels panels{matrix.values + panel * bytes, bytes};
    const bool goes_on = panel + some.value < last || in.next == nullptr;
    const std::byte* next = goes_on ? panels.first + some.value * bytes : in.next;
    // The next panels come bit by bit while all vectors are multiplied with these.
    const std::int64_t turns = tiles * Kernel::kTurns;
    const std::int64_t step = (some.value * Kernel::kTurnBytes + turns - 1) / turns;
    const auto times = [&](auto ahead) HWY_ATTR {
      PanelsTimesAll<some.value>(kernel, panels, N, count, ahead, all, panel * kPanelRows, results);
    };
    if (tiles > 1 && step <= kMostAhead)
      times(Ahead<1>{next, step});
    else
      times(NothingAhead{});
  };
  std::int64_t panel = first;
  // Two and two are faster than three and one.
  for (; panel + P <= last && (P == 2 || panel + P + 1 != last); panel += P)
    multiply(std::integral_constant<int, P>(), panel);
  if constexpr (P > 2)
    for (; panel + 2 <= last; panel += 2) multiply(std::integral_constant<int, 2>(), panel);
  for (; panel < last; ++panel) multiply(std::integral_constant<int, 1>(), panel);
}

template <class Kernel>
void Multiply(const Kernel& kernel, const WeightMatrix& matrix, std::int64_t first,
              std::int64_t last, const Activations& in, float* y, std::int64_t stride) {
  const std::int64_t begin = first / kPanelRows, end = panel_count(last);
  const Results results{y, stride, last};
  if (in.count == 1) return MultiplyOne(kernel, matrix, begin, end, results);
  MultiplySeveral(kernel, matrix, begin, end, in, results);
}

template <bool kDot>
void MultiplyIntegers(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                      const Activations& in, float* y, std::int64_t stride) {
  const std::int64_t N = matrix.columns;
  if (matrix.type == WeightType::kInt8)
    return Multiply(Int8Kernel<kDot>(N, in.quantized), matrix, first, last, in, y, stride);
  Multiply(Int4Kernel<kDot>(N, in.quantized), matrix, first, last, in, y, stride);
}

#endif

void MultiplyPanels(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                    const Activations& in, float* y, std::int64_t stride) {
#if HWY_TARGET == HWY_SCALAR
  multiply_panels_reference(matrix, first, last, in.x, in.count, y, stride);
#else
  const std::int64_t N = matrix.columns;
  if (matrix.type == WeightType::kF32)
    return Multiply(FloatKernel<Float32>(N, in.x), matrix, first, last, in, y, stride);
  if (matrix.type == WeightType::kBF16)
    return Multiply(FloatKernel<BFloat16>(N, in.x), matrix, first, last, in, y, stride);
#if RWKVX_X86
  if (uses_dot_instructions(/*wide=*/HWY_TARGET == HWY_AVX3))
    MultiplyIntegers<true>(matrix, first, last, in, y, stride);
  else
#endif
    MultiplyIntegers<false>(matrix, first, last, in, y, stride);
  if (matrix.wide.first == nullptr) return;
  for (std::int64_t row = first; row < last; ++row) {
    const auto begin = matrix.wide.first[row], end = matrix.wide.first[row + 1];
    for (std::int64_t i = 0; begin < end && i < in.count; ++i) {
      const float* x = in.x + i * N;
      float sum = y[i * stride + row];
      for (auto at = begin; at < end; ++at)
        sum += matrix.wide.values[at] * x[matrix.wide.columns[at]];
      y[i * stride + row] = sum;
    }
  }
#endif
}

std::uint64_t ReadBytes(const std::byte* from, std::int64_t count) {
  const hn::ScalableTag<std::uint64_t> d;
  const auto bytes = static_cast<std::int64_t>(hn::Lanes(d) * sizeof(std::uint64_t));
  constexpr int kStreams = 8;
  auto sums = hn::Zero(d);
  std::int64_t at = 0;
  for (; at + kStreams * bytes <= count; at += kStreams * bytes) {
    auto some = hn::Zero(d);
    for (int i = 0; i < kStreams; ++i)
      some = hn::Xor(some,
                     hn::LoadU(d, reinterpret_cast<const std::uint64_t*>(from + at + i * bytes)));
    sums = hn::Xor(sums, some);
  }
  return hn::GetLane(sums);
}

}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {

HWY_EXPORT(MultiplyPanels);
HWY_EXPORT(ReadBytes);

namespace {

// Of no columns, which the kernels leave out.
void fill_zeros(std::int64_t first, std::int64_t last, std::int64_t count, float* y,
                std::int64_t stride) {
  for (std::int64_t i = 0; i < count; ++i)
    std::fill(y + i * stride + first, y + i * stride + last, 0.0f);
}

}  // namespace

void multiply_panels(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                     const Activations& in, float* y, std::int64_t stride) {
  if (in.count == 0 || first >= last) return;
  if (matrix.columns == 0) return fill_zeros(first, last, in.count, y, stride);
  HWY_DYNAMIC_DISPATCH(MultiplyPanels)(matrix, first, last, in, y, stride);
}

void multiply_panels_reference(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                               const float* x, std::int64_t count, float* y, std::int64_t stride) {
  const std::int64_t N = matrix.columns;
  std::vector<float> w(static_cast<std::size_t>(panel_bytes(WeightType::kF32, N) / 4));
  for (std::int64_t row = first; row < last; ++row) {
    if (row % kPanelRows == 0) unpack_panel(matrix, row / kPanelRows, w.data());
    for (std::int64_t i = 0; i < count; ++i) {
      double sum = 0;
      for (std::int64_t c = 0; c < N; ++c)
        sum += static_cast<double>(w[static_cast<std::size_t>(c * kPanelRows + row % kPanelRows)]) *
               static_cast<double>(x[i * N + c]);
      y[i * stride + row] = static_cast<float>(sum);
    }
  }
}

std::uint64_t read_bytes(const std::byte* from, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(ReadBytes)(from, count);
}

}  // namespace rwkvx
#endif
