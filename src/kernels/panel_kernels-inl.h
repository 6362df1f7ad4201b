// Parts of panels times a few vectors, for each type of weights. Included once per instruction set,
// as Highway's own *-inl.h files are.
#if defined(RWKVX_KERNELS_PANEL_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RWKVX_KERNELS_PANEL_KERNELS_INL_H_
#undef RWKVX_KERNELS_PANEL_KERNELS_INL_H_
#else
#define RWKVX_KERNELS_PANEL_KERNELS_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#include "kernels/panel_vectors-inl.h"
#include "rwkvx/kernels/quantized_activations.h"
#include "rwkvx/kernels/weight_panels.h"

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {

// Vectors that are registers of x86, and not made of single numbers.
#undef RWKVX_X86
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
#define RWKVX_X86 1
#else
#define RWKVX_X86 0
#endif

#if HWY_TARGET != HWY_SCALAR  // which has no 16-bit vectors beside 32-bit ones

using I16 = hn::Repartition<std::int16_t, F>;
using U8 = hn::Repartition<std::uint8_t, F>;
using V16 = hn::VFromD<I16>;
using V8 = hn::VFromD<U8>;

constexpr int kParts = static_cast<int>(kPanelRows / kLanes);  // vectors of a panel's rows
constexpr bool kWholePanel = kParts == 1;                      // and 32 registers
constexpr std::int64_t kLine = 64;                             // bytes of a cache line

// Holds a value in a register here. Left alone, the compiler makes a load a part of each
// instruction that uses it, or makes several products before it adds them, until registers run out.
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
//   kTurnBytes   of a panel, for which Part() takes kTurns turns of `ahead`
//   Part<P, S>(panels, i, c, end, sums, ahead)
//                sums (P panels' vectors of rows, S) <- the products of the panels with vectors
//                from i on, of columns c .. end, c being a multiple of kColumns
//   Finish(panel, part, i, sum)   what a vector of rows and vector i give, from their sum

// Weights that floats are multiplied with, of a column and the next one.
struct Float32 {
  static constexpr int kTilePanels = kWholePanel ? 2 : 1, kTileVectors = RWKVX_X86 ? 6 : 3;
  static constexpr std::int64_t kColumnBytes = 64;
  template <int kOdd>
  static HWY_INLINE VF Load(const std::byte* column) {
    return hn::LoadU(F(), reinterpret_cast<const float*>(column + kOdd * kColumnBytes));
  }
};
struct BFloat16 {
  // Whose panels are half as long, so that three of them and the next three stay in the cache.
  static constexpr int kTilePanels = kWholePanel ? 3 : 1;
  static constexpr int kTileVectors = kWholePanel ? 8 : RWKVX_X86 ? 6 : 3;
  static constexpr std::int64_t kColumnBytes = 32;
  template <int kOdd>
  static HWY_INLINE VF Load(const std::byte* column) {
    const auto both = hn::LoadU(U32(), reinterpret_cast<const std::uint32_t*>(column));
    if constexpr (kOdd == 0) return FromBf16(both);
    return hn::BitCast(F(), hn::And(both, hn::Set(U32(), 0xffff0000u)));
  }
};

// Even and odd columns have sums of their own, which are made side by side where the registers hold
// them all, else one after the other.
template <class Weights>
class FloatKernel {
 public:
  static constexpr int kTilePanels = Weights::kTilePanels, kTileVectors = Weights::kTileVectors;
  static constexpr int kOnePanels = kWholePanel ? 4 : 2;
  static constexpr std::int64_t kColumns = 256;
  static constexpr std::int64_t kTurnBytes = 2 * Weights::kColumnBytes;
  template <int P, int S>
  static constexpr bool kSideBySide = (2 * kParts) * (P * S) <= (kWholePanel ? 24 : 12);
  static constexpr std::int64_t kTurns = kSideBySide<kTilePanels, kTileVectors> ? 1 : 2;

  FloatKernel(std::int64_t columns, const float* x) : x_(x), N_(columns) {}

  template <int P, int S, class A>
  HWY_INLINE void Part(const Panels& panels, std::int64_t i, std::int64_t c, std::int64_t end,
                       VF (&sums)[P * kParts][S], A& ahead) const {
    VF odd[P * kParts][S];
    const float* x = x_ + i * N_;
    const std::byte* at = panels.first + c * Weights::kColumnBytes;
    if constexpr (kSideBySide<P, S>) {
      Clear(sums), Clear(odd);
      for (; c + 2 <= end; c += 2, at += kTurnBytes) {
        ahead.Turn();
        Column<0>(panels, at, x + c, sums);
        Column<1>(panels, at, x + c + 1, odd);
      }
      if (c < end) Column<0>(panels, at, x + c, sums);
    } else {
      EverySecond<0>(panels, at, x, c, end, sums, ahead);
      EverySecond<1>(panels, at, x, c, end, odd, ahead);
    }
    for (int v = 0; v < P * kParts; ++v)
      for (int s = 0; s < S; ++s) sums[v][s] = hn::Add(sums[v][s], odd[v][s]);
  }

  HWY_INLINE VF Finish(const std::byte*, int, std::int64_t, VF sum) const { return sum; }

 private:
  template <int V, int S>
  static HWY_INLINE void Clear(VF (&sums)[V][S]) {
    for (auto& row : sums)
      for (auto& sum : row) sum = hn::Zero(F());
  }
  template <int kOdd, int V, int S, class A>
  HWY_INLINE void EverySecond(const Panels& panels, const std::byte* at, const float* x,
                              std::int64_t c, std::int64_t end, VF (&result)[V][S],
                              A& ahead) const {
    VF sums[V][S];  // of its own, so that it stays in registers
    Clear(sums);
    for (c += kOdd; c < end; c += 2, at += kTurnBytes) {
      ahead.Turn();
      Column<kOdd>(panels, at, x + c, sums);
    }
    for (int v = 0; v < V; ++v)
      for (int s = 0; s < S; ++s) result[v][s] = sums[v][s];
  }
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
#if RWKVX_X86
template <bool kDot>
class PairSums {
 public:
  HWY_INLINE void Start(V32 sum) { sum_ = sum; }
  HWY_INLINE void Add(V16 w, V16 x) {
    if constexpr (kDot) {
      auto total = sum_.raw;
      asm(RWKVX_VEX "vpdpwssd %2, %1, %0" : "+v"(total) : "v"(w.raw), "v"(x.raw));
      sum_.raw = total;
      return;
    }
    auto none = hn::Zero(I32());
    sum_ = Held(hn::ReorderWidenMulAccumulate(I32(), w, x, sum_, none));
  }
  HWY_INLINE V32 Total() const { return sum_; }

 private:
  V32 sum_;
};
#else
template <bool kDot>
class PairSums {
 public:
  HWY_INLINE void Start(V32 sum) { sum_ = sum, rest_ = hn::Zero(I32()); }
  HWY_INLINE void Add(V16 w, V16 x) {
    sum_ = hn::ReorderWidenMulAccumulate(I32(), w, x, sum_, rest_);
  }
  // Two products of each row, low rows first, lie side by side.
  HWY_INLINE V32 Total() const {
    return hn::Add(hn::ConcatEven(I32(), rest_, sum_), hn::ConcatOdd(I32(), rest_, sum_));
  }

 private:
  V32 sum_, rest_;
};
#endif

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
  static constexpr int kTileVectors = kWholePanel ? 8 : RWKVX_X86 ? 6 : 2;
  static constexpr int kOnePanels = kWholePanel ? 4 : RWKVX_X86 ? 2 : 1;
  static constexpr std::int64_t kColumns = 512;  // 512 * 127 * 32767 < 2^31
  static constexpr std::int64_t kTurnBytes = kLine, kTurns = 1;

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
      Pair<0>(panels, at, x, exact);
      Pair<1>(panels, at, x + 4, exact);
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
  // The first or the second two of four columns.
  template <int kSecond, int V, int S>
  HWY_INLINE void Pair(const Panels& panels, const std::byte* at, const std::byte* x,
                       PairSums<kDot> (&exact)[V][S]) const {
    V16 w[V];
    for (int v = 0; v < V; ++v)
      w[v] = Held(SignedPair<kSecond>(
          hn::LoadU(I32(), reinterpret_cast<const std::int32_t*>(at + panels.Rows(v)))));
    for (int s = 0; s < S; ++s) {
      const auto in = hn::BitCast(I16(), Four(x + s * layout_.bytes));
      for (int v = 0; v < V; ++v) exact[v][s].Add(w[v], in);
    }
  }

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
    auto total = sums_.raw, two = total;
    asm("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0"
        : "+v"(total), "=&v"(two)
        : "v"(w.raw), "v"(x.raw));
    sums_.raw = total;
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
  static constexpr int kTileVectors = RWKVX_X86 ? 6 : 1;
  static constexpr int kOnePanels = kWholePanel ? 4 : RWKVX_X86 ? 2 : 1;
  static constexpr std::int64_t kColumns = 512;
  static constexpr std::int64_t kTurnBytes = kInt4PanelBlock / 8, kTurns = 1;

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
      const auto* at = reinterpret_cast<const std::uint16_t*>(
          block + v / kParts * panels.stride + kInt4PanelScales + kHigh * 2 * kPanelRows +
          v % kParts * 2 * kLanes);
      scales[v] = LoadBf16(at);
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

#endif

}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#endif
