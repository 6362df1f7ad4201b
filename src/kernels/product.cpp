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
#include <hwy/cache_control.h>
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
  ProductBuffer sums, unpacked;
};
ProductBuffers& product_buffers() {
  thread_local ProductBuffers buffers;
  return buffers;
}

}  // namespace
}  // namespace rwkvx
#endif

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Vectors that are registers of x86, and not made of single numbers.
#undef RWKVX_X86
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
#define RWKVX_X86 1
#else
#define RWKVX_X86 0
#endif

#if HWY_TARGET != HWY_SCALAR  // which has no 16-bit vectors beside 32-bit ones

using F = hn::CappedTag<float, kPanelRows>;
using I32 = hn::Rebind<std::int32_t, F>;
using I16 = hn::Repartition<std::int16_t, F>;
using U8 = hn::Repartition<std::uint8_t, F>;
using VF = hn::VFromD<F>;
using V32 = hn::VFromD<I32>;
using V16 = hn::VFromD<I16>;
using V8 = hn::VFromD<U8>;

constexpr std::int64_t kLanes = hn::MaxLanes(F());
constexpr int kParts = static_cast<int>(kPanelRows / kLanes);  // vectors of a panel's rows
constexpr bool kWholePanel = kParts == 1;                      // and 32 registers
constexpr std::int64_t kLine = 64;                             // bytes of a cache line
// Bytes that a few multiplications may ask for ahead: more of them hold up other reads, and the CPU
// does better when left alone.
constexpr std::int64_t kMostAhead = 2 * kLine;

// Holds a value in a register here. Left alone, the compiler makes a load a part of each
// instruction that uses it, or moves multiplications ahead until registers run out.
template <class V>
HWY_INLINE V Held(V v) {
#if RWKVX_X86
  asm("" : "+v"(v.raw));
#endif
  return v;
}

// Memory that will be read, asked for bit by bit: that of P streams `stride` bytes apart.
template <int P>
struct Ahead {
  const std::byte* at;
  std::int64_t step;  // bytes of a stream per turn
  std::int64_t stride = 0;

  HWY_INLINE void Turn() {
    for (std::int64_t i = 0; i < step; i += kLine)
      for (int p = 0; p < P; ++p) hwy::Prefetch(at + p * stride + i);
    at += step;
  }
};
struct NothingAhead {
  HWY_INLINE void Turn() {}
};

// Panels that are so many bytes apart.
struct Panels {
  const std::byte* first;
  std::int64_t stride;
  // Where one vector of rows of all P panels begins.
  HWY_INLINE std::int64_t Rows(int v) const {
    return v / kParts * stride + v % kParts * 4 * kLanes;
  }
};

// A kernel has
//   kTilePanels, kTileVectors   panels and vectors whose products it takes at a time
//   kOnePanels   panels for one vector, enough that no sum waits for the one before it
//   kColumns     columns whose products are summed before the sum is added to that of the columns
//                before them: rounding errors grow with the parts rather than with the columns,
//                exact sums fit, and a part of the operands stays in the nearest cache
//   kTurnBytes   of a panel, for which Part() takes a turn of `ahead`
//   Part<P, S>(panels, i, c, end, sums, ahead)
//                sums (P panels' vectors of rows, S) <- the products of the panels with vectors
//                from i on, of columns c .. end, c being a multiple of kColumns
//   Finish(panel, part, i, sum)   what a vector of rows and vector i give, from their sum

// Weights that floats are multiplied with, of a column and the next one.
struct Float32 {
  static constexpr std::int64_t kColumnBytes = 64;
  template <int kOdd>
  static HWY_INLINE VF Load(const std::byte* column) {
    return hn::LoadU(F(), reinterpret_cast<const float*>(column + kOdd * kColumnBytes));
  }
};
struct BFloat16 {
  static constexpr std::int64_t kColumnBytes = 32;
  template <int kOdd>
  static HWY_INLINE VF Load(const std::byte* column) {
    const hn::Rebind<std::uint32_t, F> d;
    const auto both = hn::LoadU(d, reinterpret_cast<const std::uint32_t*>(column));
    if constexpr (kOdd == 0) return hn::BitCast(F(), hn::ShiftLeft<16>(both));
    return hn::BitCast(F(), hn::And(both, hn::Set(d, 0xffff0000u)));
  }
};

// Even and odd columns have sums of their own.
template <class Weights>
class FloatKernel {
 public:
  static constexpr int kTilePanels = kWholePanel ? 2 : 1, kTileVectors = kWholePanel ? 6 : 3;
  static constexpr int kOnePanels = kWholePanel ? 4 : 2;
  static constexpr std::int64_t kColumns = 256;
  static constexpr std::int64_t kTurnBytes = 2 * Weights::kColumnBytes;

  FloatKernel(std::int64_t columns, const float* x) : x_(x), N_(columns) {}

  template <int P, int S, class A>
  HWY_INLINE void Part(const Panels& panels, std::int64_t i, std::int64_t c, std::int64_t end,
                       VF (&sums)[P * kParts][S], A& ahead) const {
    VF odd[P * kParts][S];
    for (int v = 0; v < P * kParts; ++v)
      for (int s = 0; s < S; ++s) sums[v][s] = odd[v][s] = hn::Zero(F());
    const float* x = x_ + i * N_;
    const std::byte* at = panels.first + c * Weights::kColumnBytes;
    for (; c + 2 <= end; c += 2, at += kTurnBytes) {
      ahead.Turn();
      Column<0>(panels, at, x + c, sums);
      Column<1>(panels, at, x + c + 1, odd);
    }
    if (c < end) Column<0>(panels, at, x + c, sums);
    for (int v = 0; v < P * kParts; ++v)
      for (int s = 0; s < S; ++s) sums[v][s] = hn::Add(sums[v][s], odd[v][s]);
  }

  HWY_INLINE VF Finish(const std::byte*, int, std::int64_t, VF sum) const { return sum; }

 private:
  template <int kOdd, int V, int S>
  HWY_INLINE void Column(const Panels& panels, const std::byte* at, const float* x,
                         VF (&sums)[V][S]) const {
    VF w[V];
    for (int v = 0; v < V; ++v) w[v] = Weights::template Load<kOdd>(at + panels.Rows(v));
    for (int s = 0; s < S; ++s) {
      const VF in = Held(hn::Set(F(), x[s * N_]));
      for (int v = 0; v < V; ++v) sums[v][s] = hn::MulAdd(w[v], in, sums[v][s]);
    }
  }

  const float* x_;
  std::int64_t N_;
};

// Dot-product instructions are inlined assembly, as they belong to no target that Highway compiles
// for here. On AVX2 they are those of AVX-VNNI.
#undef RWKVX_VEX
#if HWY_TARGET == HWY_AVX3
#define RWKVX_VEX ""
#else
#define RWKVX_VEX "%{vex%} "
#endif

// The four bytes or two 16-bit numbers at `from`, for each row.
HWY_INLINE V32 Four(const void* from) {
  std::int32_t bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return Held(hn::Set(I32(), bytes));
}

// Sums of products of pairs of 16-bit numbers, exact.
template <bool kDot>
class PairSums {
 public:
  HWY_INLINE void Start(V32 sum) { sum_ = sum, rest_ = hn::Zero(I32()); }
  HWY_INLINE void Add(V16 w, V16 x) {
#if RWKVX_X86
    if constexpr (kDot) {
      auto total = sum_.raw;
      asm(RWKVX_VEX "vpdpwssd %2, %1, %0" : "+v"(total) : "v"(w.raw), "v"(x.raw));
      sum_.raw = total;
      return;
    }
#endif
    sum_ = hn::ReorderWidenMulAccumulate(I32(), w, x, sum_, rest_);
  }
  HWY_INLINE V32 Total() const {
#if RWKVX_X86
    return sum_;
#else
    // Two products of each row, low rows first, lie side by side.
    return hn::Add(hn::ConcatEven(I32(), rest_, sum_), hn::ConcatOdd(I32(), rest_, sum_));
#endif
  }

 private:
  V32 sum_, rest_;
};

// Signed bytes of columns 0 and 1, or 2 and 3, of four as kInt8 has them in its panels.
template <int kSecond>
HWY_INLINE V16 SignedPair(V32 four) {
  const auto two = hn::BitCast(I16(), four);
  if constexpr (kSecond == 0) return hn::ShiftRight<8>(hn::ShiftLeft<8>(two));
  return hn::ShiftRight<8>(two);
}

// 8-bit weights times 16-bit activations. The sums of kColumns columns are exact.
template <bool kDot>
class Int8Kernel {
 public:
  static constexpr int kTilePanels = kWholePanel ? 2 : 1;
  static constexpr int kTileVectors = kWholePanel ? 8 : RWKVX_X86 ? 4 : 2;
  static constexpr int kOnePanels = kWholePanel ? 4 : RWKVX_X86 ? 2 : 1;
  static constexpr std::int64_t kColumns = 512;  // 512 * 127 * 32767 < 2^31
  static constexpr std::int64_t kTurnBytes = kLine;

  Int8Kernel(std::int64_t columns, const std::byte* quantized)
      : x_(quantized), layout_(WeightType::kInt8, columns) {}

  template <int P, int S, class A>
  HWY_INLINE void Part(const Panels& panels, std::int64_t i, std::int64_t c, std::int64_t end,
                       VF (&sums)[P * kParts][S], A& ahead) const {
    constexpr int V = P * kParts;
    PairSums<kDot> exact[V][S];
    for (auto& row : exact)
      for (auto& sum : row) sum.Start(hn::Zero(I32()));
    const std::byte* x = x_ + i * layout_.bytes + 2 * c;
    const std::byte* at = panels.first + kLine + 16 * c;
    for (; c < end; c += 4, at += kTurnBytes, x += 8) {
      ahead.Turn();
      V16 first[V], second[V];
      for (int v = 0; v < V; ++v) {
        const auto four =
            hn::LoadU(I32(), reinterpret_cast<const std::int32_t*>(at + panels.Rows(v)));
        first[v] = Held(SignedPair<0>(four)), second[v] = Held(SignedPair<1>(four));
      }
      for (int s = 0; s < S; ++s) {
        const auto in = hn::BitCast(I16(), Four(x + s * layout_.bytes));
        for (int v = 0; v < V; ++v) exact[v][s].Add(first[v], in);
        const auto next = hn::BitCast(I16(), Four(x + s * layout_.bytes + 4));
        for (int v = 0; v < V; ++v) exact[v][s].Add(second[v], next);
      }
    }
    for (int v = 0; v < V; ++v)
      for (int s = 0; s < S; ++s) sums[v][s] = hn::ConvertTo(F(), exact[v][s].Total());
  }

  HWY_INLINE VF Finish(const std::byte* panel, int part, std::int64_t i, VF sum) const {
    float scale;
    std::memcpy(&scale, x_ + i * layout_.bytes + layout_.scales, sizeof scale);
    const auto* rows = reinterpret_cast<const float*>(panel) + part * kLanes;
    return hn::Mul(hn::Mul(sum, hn::LoadU(F(), rows)), hn::Set(F(), scale));
  }

 private:
  const std::byte* x_;
  QuantizedLayout layout_;
};

// Sums of products of four numbers 0 .. 15 with four signed bytes, exact, of up to eight of them.
// `start` is where the number lies that a sum starts with.
#if RWKVX_X86
template <bool kDot>
class GroupSums {
 public:
  HWY_INLINE void Start(const std::byte* start) {
    if constexpr (kDot)
      sums_ = hn::BitCast(I16(), Four(start));
    else
      sums_ = hn::Zero(I16());
  }
  HWY_INLINE void Add(V8 w, V32 x) {
    if constexpr (kDot) {
      auto total = sums_.raw;
      asm(RWKVX_VEX "vpdpbusd %2, %1, %0" : "+v"(total) : "v"(w.raw), "v"(x.raw));
      sums_.raw = total;
      return;
    }
    // Of two products, at most 2 * 15 * 127: eight fit into 16 bits.
#if HWY_TARGET == HWY_AVX3
    const V16 two{_mm512_maddubs_epi16(w.raw, x.raw)};
#else
    const V16 two{_mm256_maddubs_epi16(w.raw, x.raw)};
#endif
    sums_ = hn::Add(sums_, two);
  }
  HWY_INLINE V32 Total(const std::byte* start) const {
    if constexpr (kDot) return hn::BitCast(I32(), sums_);
    auto rest = hn::Zero(I32());
    const auto one = hn::Set(I16(), std::int16_t{1});
    return hn::ReorderWidenMulAccumulate(I32(), sums_, one, Four(start), rest);
  }

 private:
  V16 sums_;  // 32 bits each where kDot
};
#else
template <bool kDot>
class GroupSums {
 public:
  HWY_INLINE void Start(const std::byte*) { sums_.Start(hn::Zero(I32())); }
  HWY_INLINE void Add(V8 w, V32 x) {
    const auto weights = hn::BitCast(I16(), w), in = hn::BitCast(I16(), x);
    sums_.Add(hn::And(weights, hn::Set(I16(), std::int16_t{0xff})),
              hn::ShiftRight<8>(hn::ShiftLeft<8>(in)));
    sums_.Add(hn::ShiftRight<8>(weights), hn::ShiftRight<8>(in));
  }
  HWY_INLINE V32 Total(const std::byte* start) const { return hn::Add(Four(start), sums_.Total()); }

 private:
  PairSums<false> sums_;
};
#endif

// 4-bit weights times 8-bit activations, group by group. The weights are not freed from their
// offset 8: a group's sum starts with -8 times its activations.
template <bool kDot>
class Int4Kernel {
 public:
  static constexpr int kTilePanels = kWholePanel ? 2 : 1;
  static constexpr int kTileVectors = RWKVX_X86 ? 4 : 1;
  static constexpr int kOnePanels = kWholePanel ? 4 : RWKVX_X86 ? 2 : 1;
  static constexpr std::int64_t kColumns = 512;
  static constexpr std::int64_t kTurnBytes = kInt4PanelBlock / 8;

  Int4Kernel(std::int64_t columns, const std::byte* quantized)
      : x_(quantized), layout_(WeightType::kInt4, columns) {}

  template <int P, int S, class A>
  HWY_INLINE void Part(const Panels& panels, std::int64_t i, std::int64_t c, std::int64_t end,
                       VF (&sums)[P * kParts][S], A& ahead) const {
    for (auto& row : sums)
      for (auto& sum : row) sum = hn::Zero(F());
    const std::byte* at = panels.first + c / kInt4Block * kInt4PanelBlock;
    for (; c < end; c += kInt4Block, at += kInt4PanelBlock) {
      Group<P, S, 0>(panels, at, i, c, sums, ahead);
      Group<P, S, 1>(panels, at, i, c + kInt4Group, sums, ahead);
    }
  }

  HWY_INLINE VF Finish(const std::byte*, int, std::int64_t, VF sum) const { return sum; }

 private:
  template <int P, int S, int kHigh, class A>
  HWY_INLINE void Group(const Panels& panels, const std::byte* block, std::int64_t i,
                        std::int64_t c, VF (&sums)[P * kParts][S], A& ahead) const {
    constexpr int V = P * kParts;
    const std::byte* x = x_ + i * layout_.bytes;
    const std::int64_t group = c / kInt4Group * 4;  // bytes before its scale
    const auto start = [&](int s) { return x + s * layout_.bytes + layout_.starts + group; };
    GroupSums<kDot> exact[V][S];
    for (int v = 0; v < V; ++v)
      for (int s = 0; s < S; ++s) exact[v][s].Start(start(s));
    const hn::RebindToUnsigned<I16> d16;
    const auto digits = hn::Set(U8(), std::uint8_t{0xf});
    for (int line = 0; line < kInt4Group / 4; ++line) {
      if ((line & 1) == 0) ahead.Turn();
      V8 w[V];
      for (int v = 0; v < V; ++v) {
        w[v] = hn::LoadU(
            U8(), reinterpret_cast<const std::uint8_t*>(block + kLine * line + panels.Rows(v)));
        if constexpr (kHigh == 1)
          w[v] = hn::BitCast(U8(), hn::ShiftRight<4>(hn::BitCast(d16, w[v])));
        w[v] = Held(hn::And(w[v], digits));
      }
      for (int s = 0; s < S; ++s) {
        const auto in = Four(x + s * layout_.bytes + c + 4 * line);
        for (int v = 0; v < V; ++v) exact[v][s].Add(w[v], in);
      }
    }
    VF scales[V];
    for (int v = 0; v < V; ++v) {
      const hn::Rebind<std::uint16_t, F> narrow;
      const hn::Rebind<std::uint32_t, F> wide;
      const auto* at = reinterpret_cast<const std::uint16_t*>(
          block + v / kParts * panels.stride + kInt4PanelScales + kHigh * 2 * kPanelRows +
          v % kParts * 2 * kLanes);
      scales[v] = hn::BitCast(F(), hn::ShiftLeft<16>(hn::PromoteTo(wide, hn::LoadU(narrow, at))));
    }
    for (int s = 0; s < S; ++s) {
      const auto scale = hn::BitCast(F(), Four(x + s * layout_.bytes + layout_.scales + group));
      for (int v = 0; v < V; ++v)
        sums[v][s] = hn::MulAdd(hn::ConvertTo(F(), exact[v][s].Total(start(s))),
                                hn::Mul(scales[v], scale), sums[v][s]);
    }
  }

  const std::byte* x_;
  QuantizedLayout layout_;
};

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
                     std::int64_t last, std::int64_t count, const Results& results) {
  constexpr int P = Kernel::kTilePanels;
  const std::int64_t N = matrix.columns, bytes = panel_bytes(matrix.type, N);
  float* all = product_buffers().sums.reserve(count * P * kPanelRows);
  const std::int64_t tiles = (count + Kernel::kTileVectors - 1) / Kernel::kTileVectors;
  const auto multiply = [&](auto some, std::int64_t panel) HWY_ATTR {
    const Panels panels{matrix.values + panel * bytes, bytes};
    // The next panels come bit by bit while all vectors are multiplied with these.
    const std::int64_t step = (some.value * Kernel::kTurnBytes + tiles - 1) / tiles;
    const auto times = [&](auto ahead) HWY_ATTR {
      PanelsTimesAll<some.value>(kernel, panels, N, count, ahead, all, panel * kPanelRows, results);
    };
    if (tiles > 1 && step <= kMostAhead)
      times(Ahead<1>{panels.first + some.value * bytes, step});
    else
      times(NothingAhead{});
  };
  std::int64_t panel = first;
  for (; panel + P <= last; panel += P) multiply(std::integral_constant<int, P>(), panel);
  for (; panel < last; ++panel) multiply(std::integral_constant<int, 1>(), panel);
}

template <class Kernel>
void Multiply(const Kernel& kernel, const WeightMatrix& matrix, std::int64_t first,
              std::int64_t last, std::int64_t count, float* y, std::int64_t stride) {
  const std::int64_t begin = first / kPanelRows, end = panel_count(last);
  const Results results{y, stride, last};
  if (count == 1) return MultiplyOne(kernel, matrix, begin, end, results);
  MultiplySeveral(kernel, matrix, begin, end, count, results);
}

template <bool kDot>
void MultiplyIntegers(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                      const Activations& in, float* y, std::int64_t stride) {
  const std::int64_t N = matrix.columns;
  if (matrix.type == WeightType::kInt8)
    return Multiply(Int8Kernel<kDot>(N, in.quantized), matrix, first, last, in.count, y, stride);
  Multiply(Int4Kernel<kDot>(N, in.quantized), matrix, first, last, in.count, y, stride);
}

#endif

void MultiplyPanels(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                    const Activations& in, float* y, std::int64_t stride) {
#if HWY_TARGET == HWY_SCALAR
  multiply_panels_reference(matrix, first, last, in.x, in.count, y, stride);
#else
  const std::int64_t N = matrix.columns;
  if (matrix.type == WeightType::kF32)
    return Multiply(FloatKernel<Float32>(N, in.x), matrix, first, last, in.count, y, stride);
  if (matrix.type == WeightType::kBF16)
    return Multiply(FloatKernel<BFloat16>(N, in.x), matrix, first, last, in.count, y, stride);
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

void MultiplyAsFloats(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                      const float* x, std::int64_t count, float* y, std::int64_t stride) {
#if HWY_TARGET == HWY_SCALAR
  multiply_panels_reference(matrix, first, last, x, count, y, stride);
#else
  const std::int64_t N = matrix.columns;
  if (matrix.type == WeightType::kF32)
    return MultiplyPanels(matrix, first, last, {count, x, nullptr}, y, stride);
  // As many panels at a time as the kernel takes.
  constexpr std::int64_t kPanels = FloatKernel<Float32>::kTilePanels;
  const std::int64_t floats = panel_bytes(WeightType::kF32, N) / 4;
  float* unpacked = product_buffers().unpacked.reserve(kPanels * floats);
  for (std::int64_t row = first; row < last; row += kPanels * kPanelRows) {
    const std::int64_t rows = std::min(kPanels * kPanelRows, last - row);
    for (std::int64_t p = 0; p < panel_count(rows); ++p)
      unpack_panel(matrix, row / kPanelRows + p, unpacked + p * floats);
    const WeightMatrix part{.type = WeightType::kF32,
                            .rows = rows,
                            .columns = N,
                            .values = reinterpret_cast<const std::byte*>(unpacked),
                            .panels = true};
    MultiplyPanels(part, 0, rows, {count, x, nullptr}, y + row, stride);
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
HWY_EXPORT(MultiplyAsFloats);
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

void multiply_panels_as_floats(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                               const float* x, std::int64_t count, float* y, std::int64_t stride) {
  if (count == 0 || first >= last) return;
  if (matrix.columns == 0) return fill_zeros(first, last, count, y, stride);
  HWY_DYNAMIC_DISPATCH(MultiplyAsFloats)(matrix, first, last, x, count, y, stride);
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
