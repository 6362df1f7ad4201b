#include "rwkvx/kernels/matvec.h"

#include <algorithm>
#include <cstring>

#include "rwkvx/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matvec.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/cache_control.h>
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using VF = hn::VFromD<F>;
#if HWY_TARGET != HWY_SCALAR  // which has no 16-bit vectors beside 32-bit ones
using I32 = hn::Rebind<std::int32_t, F>;
using I16 = hn::Repartition<std::int16_t, F>;
using V32 = hn::VFromD<I32>;
using V16 = hn::VFromD<I16>;
#endif

#if HWY_TARGET != HWY_SCALAR

constexpr bool kWideVectors = hn::MaxLanes(F()) >= 16;  // and 32 registers
constexpr std::int64_t kLine = 64;                      // bytes of a cache line
// Several vectors: columns that are multiplied at a time, so that the vectors' part stays in the
// first cache, and rows, whose bytes stay in the second.
constexpr std::int64_t kColumns = 1024, kPanelRows = 16, kPanelBytes = 96 << 10;
// Bytes of vectors that stay in the first cache beside the weights that pass through it.
constexpr std::int64_t kInCache = 20 << 10;
// Bytes that a few multiplications may ask for ahead: more of them hold up other reads, and the CPU
// does better when left alone.
constexpr std::int64_t kMostAhead = 2 * kLine;

// Holds a value in a register here. Left alone, the compiler makes a load a part of each
// instruction that uses it, or moves multiplications ahead until registers run out.
template <class V>
HWY_INLINE V Held(V v) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128
  asm("" : "+v"(v.raw));
#endif
  return v;
}

using F4 = hn::CappedTag<float, 4>;
using V4 = hn::VFromD<F4>;

// The scales of a few int4 blocks are fewer than a vector of 16 floats.
using ShortF = hn::CappedTag<float, 8>;
template <class D>
HWY_INLINE hn::VFromD<ShortF> Shortened(D d, hn::VFromD<D> v) {
  if constexpr (hn::MaxLanes(d) > 8) {
    const hn::Half<D> half;
    return hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v));
  } else {
    return v;
  }
}

// Four sums of parts of a vector.
template <class D>
HWY_INLINE V4 Folded(D d, hn::VFromD<D> v) {
  if constexpr (hn::MaxLanes(d) > 4) {
    const hn::Half<D> half;
    return Folded(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  } else {
    return v;
  }
}

// The sums of S <= 4 vectors, each added in one order for every S.
template <class D, int S>
HWY_INLINE V4 Sums(D d, const hn::VFromD<D> (&v)[S]) {
  const F4 d4;
  const V4 a = Folded(d, v[0]);
  if constexpr (S == 1) {
    const V4 two = hn::Add(a, hn::ConcatUpperUpper(d4, a, a));
    return hn::Add(two, hn::Reverse2(d4, two));
  } else {
    const V4 b = Folded(d, v[1]);
    const V4 ab = hn::Add(hn::InterleaveLower(d4, a, b), hn::InterleaveUpper(d4, a, b));
    V4 rest = ab;
    if constexpr (S > 2) {
      const V4 c = Folded(d, v[2]), last = Folded(d, v[S - 1]);
      rest = hn::Add(hn::InterleaveLower(d4, c, last), hn::InterleaveUpper(d4, c, last));
    }
    return hn::Add(hn::ConcatLowerLower(d4, rest, ab), hn::ConcatUpperUpper(d4, rest, ab));
  }
}

// Memory that will be read, asked for bit by bit.
struct Ahead {
  const std::byte* at;
  std::int64_t step;  // bytes per turn

  HWY_INLINE void Turn() {
    for (std::int64_t i = 0; i < step; i += kLine) hwy::Prefetch(at + i);
    at += step;
  }
};

// The sums of R rows and S vectors, in memory between the parts of the columns.
template <int R, int S, int A>
HWY_INLINE void ZeroSums(VF (&sums)[R][S][A]) {
  for (auto& row : sums)
    for (auto& one : row)
      for (auto& sum : one) sum = hn::Zero(F());
}
template <int R, int S, int A>
HWY_INLINE void LoadSums(const float* from, VF (&sums)[R][S][A]) {
  for (auto& row : sums)
    for (auto& one : row)
      for (auto& sum : one) sum = hn::LoadU(F(), from), from += hn::Lanes(F());
}
template <int R, int S, int A>
HWY_INLINE void StoreSums(const VF (&sums)[R][S][A], float* to) {
  for (const auto& row : sums)
    for (const auto& one : row)
      for (const auto& sum : one) hn::StoreU(sum, F(), to), to += hn::Lanes(F());
}

// The sums of a part of the columns that begins at `column`.
template <int R, int S, int A>
HWY_INLINE void BeginSums(std::int64_t column, const float* from, VF (&sums)[R][S][A]) {
  if (column == 0)
    ZeroSums(sums);
  else
    LoadSums(from, sums);
}
// Where no columns are left, the total of each dot product in the place of its first sum.
template <int R, int S, int A, class Total>
HWY_INLINE void EndSums(const VF (&sums)[R][S][A], bool more, const Total& total, float* to) {
  if (more) return StoreSums(sums, to);
  for (const auto& row : sums)
    for (const auto& one : row) hn::StoreU(total(one), F(), to), to += A * hn::Lanes(F());
}

// A kernel has
//   kRows, kVectors   rows and vectors whose products it takes at a time
//   kSums             vectors of sums of one dot product
//   kTurnBytes        of a row, for each of which Part() takes a turn of `ahead`
//   kInBytes          of one number of a vector
//   kLinearTiles      tiles of vectors up to which reading the weights takes longer than
//                     multiplying them, so that going row by row is faster
//   Row(row, y)       the dot product of a row and the first vector
//   Part<R, S>(row, i, c, end, sums)
//                     adds columns c .. end of R rows and S vectors from i on to sums (R, S, kSums,
//                     lanes), c and end being multiples of kColumns; where end is the last column,
//                     leaves the total in the first vector of each kSums
//   Finish<S>(row, i, totals, y)
//                     y (S), the dot products of a row and S vectors, from their totals
// Both ways add in the same order, so what a row and a vector give is the same to the last bit.

// Weights that floats are multiplied with: vectors of columns go to the sums by turns, then come
// the last columns one by one.
struct Float32 {
  using T = float;
  static HWY_INLINE VF Load(const T* from) { return hn::LoadU(F(), from); }
  static HWY_INLINE float One(T w) { return w; }
};
struct BFloat16 {
  using T = std::uint16_t;
  static HWY_INLINE VF Load(const T* from) {
    const hn::Rebind<std::uint16_t, F> narrow;
    const hn::Rebind<std::uint32_t, F> wide;
    const auto bits = hn::ShiftLeft<16>(hn::PromoteTo(wide, hn::LoadU(narrow, from)));
    return hn::BitCast(F(), bits);
  }
  static HWY_INLINE float One(T w) { return bf16_to_float(w); }
};

template <class W>
class FloatKernel {
 public:
  static constexpr int kSums = 2, kRows = kWideVectors ? 3 : 2, kVectors = kWideVectors ? 4 : 3;
  static constexpr std::int64_t kLinearTiles = sizeof(typename W::T) == sizeof(float) ? 2 : 1;
  static constexpr std::int64_t kInBytes = sizeof(float);
  static constexpr std::int64_t kTurnBytes = kSums * hn::MaxLanes(F()) * sizeof(typename W::T);

  FloatKernel(const WeightMatrix& matrix, const Activations& in)
      : w_(reinterpret_cast<const T*>(matrix.values)), x_(in.x), N_(matrix.columns) {}

  HWY_INLINE void Row(std::int64_t row, float* y) const {
    const F d;
    constexpr int kUnroll = 4;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const T* w = w_ + row * N_;
    VF sums[kSums];
    for (auto& sum : sums) sum = hn::Zero(d);
    std::int64_t c = 0;
    for (; c + kUnroll * lanes <= N_; c += kUnroll * lanes) {
      for (int a = 0; a < kUnroll; ++a)
        sums[a % kSums] = hn::MulAdd(W::Load(w + c + a * lanes), hn::LoadU(d, x_ + c + a * lanes),
                                     sums[a % kSums]);
    }
    for (int a = 0; a < kUnroll - 1 && c + lanes <= N_; ++a, c += lanes)
      sums[a % kSums] = hn::MulAdd(W::Load(w + c), hn::LoadU(d, x_ + c), sums[a % kSums]);
    const VF total[] = {Total(sums)};
    Finish<1>(row, 0, total, y);
  }

  template <int R, int S, bool kAhead>
  HWY_INLINE void Part(std::int64_t row, std::int64_t i, std::int64_t c, std::int64_t end,
                       float* all, [[maybe_unused]] Ahead& ahead) const {
    const F d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const T* w = w_ + row * N_;
    const float* x = x_ + i * N_;
    VF sums[R][S][kSums];
    BeginSums(c, all, sums);
    const auto add = [&](int a) HWY_ATTR {
      VF weights[R];
      for (int r = 0; r < R; ++r) weights[r] = Held(W::Load(w + r * N_ + c));
      for (int s = 0; s < S; ++s) {
        const VF in = Held(hn::LoadU(d, x + s * N_ + c));
        for (int r = 0; r < R; ++r) sums[r][s][a] = hn::MulAdd(weights[r], in, sums[r][s][a]);
      }
      c += lanes;
    };
    while (c + kSums * lanes <= end) {
      if (kAhead) ahead.Turn();
      add(0);
      add(1);
    }
    if (c + lanes <= end) add(0);
    EndSums(sums, end < N_, Total, all);
  }

  template <int S>
  HWY_INLINE void Finish(std::int64_t row, std::int64_t i, const VF (&totals)[S], float* y) const {
    const hn::CappedTag<float, 1> d1;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(F()));
    HWY_ALIGN float sums[4];
    hn::Store(Sums(F(), totals), F4(), sums);
    for (int s = 0; s < S; ++s) {
      const float* x = x_ + (i + s) * N_;
      auto sum = hn::Set(d1, sums[s]);
      for (std::int64_t c = N_ / lanes * lanes; c < N_; ++c)
        sum = hn::MulAdd(hn::Set(d1, W::One(w_[row * N_ + c])), hn::LoadU(d1, x + c), sum);
      y[s] = hn::GetLane(sum);
    }
  }

 private:
  using T = typename W::T;

  static HWY_INLINE VF Total(const VF (&sums)[kSums]) { return hn::Add(sums[0], sums[1]); }

  const T* w_;
  const float* x_;
  std::int64_t N_;
};

// sum + products of pairs of 16-bit numbers, exact; sum.b is only used where that takes two.
struct PairSums {
  V32 a, b;
  HWY_INLINE PairSums() : a(hn::Zero(I32())), b(hn::Zero(I32())) {}
  HWY_INLINE V32 Total() const { return hn::Add(a, b); }
};
template <bool kDot>
HWY_INLINE void AddPairs(V16 w, V16 x, PairSums& sum) {
#if HWY_TARGET == HWY_AVX3
  if constexpr (kDot) {
    // Inlined assembly, as the instruction belongs to no target that Highway compiles for here.
    auto total = sum.a.raw;
    asm("vpdpwssd %2, %1, %0" : "+v"(total) : "v"(w.raw), "v"(x.raw));
    sum.a.raw = total;
    return;
  }
#endif
  sum.a = hn::ReorderWidenMulAccumulate(I32(), w, x, sum.a, sum.b);
}

// 8-bit weights times 16-bit activations. The sums of kColumns columns are exact integers, then
// they are added as floats.
template <bool kDot>
class Int8Kernel {
 public:
  static constexpr int kSums = 1, kRows = kWideVectors ? 4 : 2, kVectors = 4;
  static constexpr std::int64_t kLinearTiles = 1;
  static constexpr std::int64_t kInBytes = sizeof(std::int16_t);
  static constexpr std::int64_t kTurnBytes = hn::MaxLanes(I16());

  Int8Kernel(const WeightMatrix& matrix, const Activations& in)
      : w_(reinterpret_cast<const std::int8_t*>(matrix.values)),
        scales_(reinterpret_cast<const float*>(matrix.scales)),
        in_(in),
        N_(matrix.columns),
        stride_(activation_stride(N_)) {}

  HWY_INLINE void Row(std::int64_t row, float* y) const {
    constexpr int kUnroll = 4;
    const std::int8_t* w = w_ + row * N_;
    const std::int16_t* q = in_.q;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(I16()));
    VF sum = hn::Zero(F());
    std::int64_t c = 0;
    while (c + lanes <= N_) {
      const std::int64_t end = std::min(N_, c + kColumns);
      PairSums exact[kUnroll];
      for (; c + kUnroll * lanes <= end; c += kUnroll * lanes) {
        for (int a = 0; a < kUnroll; ++a)
          AddPairs<false>(Load(w + c + a * lanes), hn::LoadU(I16(), q + c + a * lanes), exact[a]);
      }
      for (; c + lanes <= end; c += lanes)
        AddPairs<false>(Load(w + c), hn::LoadU(I16(), q + c), exact[0]);
      const VF added = hn::ConvertTo(F(), hn::Add(hn::Add(exact[0].Total(), exact[1].Total()),
                                                  hn::Add(exact[2].Total(), exact[3].Total())));
      sum = hn::Add(sum, added);
    }
    const VF total[] = {sum};
    Finish<1>(row, 0, total, y);
  }

  template <int R, int S, bool kAhead>
  HWY_INLINE void Part(std::int64_t row, std::int64_t i, std::int64_t c, std::int64_t end,
                       float* all, [[maybe_unused]] Ahead& ahead) const {
    const F d;
    const std::int8_t* w = w_ + row * N_;
    const std::int16_t* q = in_.q + i * stride_;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(I16()));
    const bool first = c == 0;
    PairSums exact[R][S];
    for (; c + lanes <= end; c += lanes) {
      if (kAhead) ahead.Turn();
      V16 weights[R];
      for (int r = 0; r < R; ++r) weights[r] = Load(w + r * N_ + c);
      for (int s = 0; s < S; ++s) {
        const auto x = Held(hn::LoadU(I16(), q + s * stride_ + c));
        for (int r = 0; r < R; ++r) {
          AddPairs<kDot && kAhead>(weights[r], x, exact[r][s]);
          exact[r][s].a = Held(exact[r][s].a);
        }
      }
    }
    for (int r = 0; r < R; ++r)
      for (int s = 0; s < S; ++s) {
        float* sum = all + (r * S + s) * static_cast<std::int64_t>(hn::Lanes(d));
        const VF added = hn::ConvertTo(d, exact[r][s].Total());
        hn::StoreU(first ? added : hn::Add(hn::LoadU(d, sum), added), d, sum);
      }
  }

  template <int S>
  HWY_INLINE void Finish(std::int64_t row, std::int64_t i, const VF (&totals)[S], float* y) const {
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(I16()));
    HWY_ALIGN float sums[4];
    hn::Store(Sums(F(), totals), F4(), sums);
    for (int s = 0; s < S; ++s) {
      const std::int16_t* q = in_.q + (i + s) * stride_;
      std::int32_t rest = 0;  // exact
      for (std::int64_t c = N_ / lanes * lanes; c < N_; ++c) rest += w_[row * N_ + c] * q[c];
      y[s] = (sums[s] + static_cast<float>(rest)) * scales_[row] * in_.scale[i + s];
    }
  }

 private:
  static HWY_INLINE V16 Load(const std::int8_t* from) {
    return hn::PromoteTo(I16(), hn::LoadU(hn::Rebind<std::int8_t, I16>(), from));
  }

  const std::int8_t* w_;
  const float* scales_;
  const Activations& in_;
  std::int64_t N_, stride_;
};

// 4-bit weights times 16-bit activations. The vectors of weights are taken as 16-bit numbers of
// four weights each; the activations come in that order (see kernels/quantized_activations.cpp).
// The weights are not freed from their offset 8: instead 8 times a group's activations are
// subtracted. The sums are those of low and of high groups, the latter 16 times as large.
template <bool kDot>
class Int4Kernel {
 public:
  static constexpr int kSums = 2, kRows = kWideVectors ? 2 : 1, kVectors = kWideVectors ? 4 : 3;
  static constexpr std::int64_t kLinearTiles = 1;
  static constexpr std::int64_t kInBytes = sizeof(std::int16_t);
  static constexpr std::int64_t kTurnBytes = hn::MaxLanes(hn::Repartition<std::uint8_t, F>());

  Int4Kernel(const WeightMatrix& matrix, const Activations& in)
      : w_(reinterpret_cast<const std::uint8_t*>(matrix.values)),
        scales_(reinterpret_cast<const std::uint16_t*>(matrix.scales)),
        in_(in),
        N_(matrix.columns),
        blocks_(matrix.blocks()),
        stride_(activation_stride(matrix.columns)),
        groups_at_(int4_groups_at(matrix.columns)) {}

  HWY_INLINE void Row(std::int64_t row, float* y) const {
    VF sums[1][1][kSums] = {{{hn::Zero(F()), hn::Zero(F())}}};
    // So many instructions per line that the CPU itself does not look far enough ahead.
    constexpr std::int64_t kDistance = 2048;
    const std::uint8_t* w = w_ + row * blocks_ * kBlockBytes;
    Ahead ahead{reinterpret_cast<const std::byte*>(w) + kDistance, kBytes};
    Run<1, 1, true>(row, 0, 0, blocks_, ahead, sums);
    const VF total[] = {Total(sums[0][0])};
    Finish<1>(row, 0, total, y);
  }

  template <int R, int S, bool kAhead>
  HWY_INLINE void Part(std::int64_t row, std::int64_t i, std::int64_t c, std::int64_t end,
                       float* all, [[maybe_unused]] Ahead& ahead) const {
    VF sums[R][S][kSums];
    BeginSums(c, all, sums);
    Run<R, S, kAhead>(row, i, c / kInt4Block, (end + kInt4Block - 1) / kInt4Block, ahead, sums);
    EndSums(sums, end < N_, Total, all);
  }

  template <int S>
  HWY_INLINE void Finish(std::int64_t row, std::int64_t i, const VF (&totals)[S], float* y) const {
    const ShortF d;
    const hn::CappedTag<float, 2> d2;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const std::uint16_t* scales = scales_ + row * blocks_ * 2;
    const auto* groups = reinterpret_cast<const float*>(in_.q + i * stride_ + groups_at_);
    const std::int64_t stride = stride_ / 2;  // floats
    hn::VFromD<ShortF> sums[S];
    for (int s = 0; s < S; ++s) sums[s] = hn::Zero(d);
    std::int64_t g = 0;
    for (; g + lanes <= 2 * blocks_; g += lanes) {
      const auto scale = BF16(d, scales + g);
      for (int s = 0; s < S; ++s)
        sums[s] = hn::MulAdd(scale, hn::LoadU(d, groups + s * stride + g), sums[s]);
    }
    const auto eight = hn::Set(d, 8.0f);
    for (int s = 0; s < S; ++s) sums[s] = hn::NegMulAdd(eight, sums[s], Shortened(F(), totals[s]));
    HWY_ALIGN float out[4];
    hn::Store(Sums(d, sums), F4(), out);
    for (; g < 2 * blocks_; g += 2) {
      const auto scale = BF16(d2, scales + g);
      for (int s = 0; s < S; ++s) {
        const auto last = hn::Mul(scale, hn::LoadU(d2, groups + s * stride + g));
        out[s] -= 8 * hn::GetLane(hn::SumOfLanes(d2, last));
      }
    }
    for (int s = 0; s < S; ++s) y[s] = out[s] * in_.scale[i + s];
  }

 private:
  using Bytes = hn::Repartition<std::uint8_t, F>;
  static constexpr std::int64_t kBytes = hn::MaxLanes(Bytes());
  static constexpr std::int64_t kBlockBytes = kInt4Block / 2;

  template <class D>
  static HWY_INLINE hn::VFromD<D> BF16(D d, const std::uint16_t* from) {
    const hn::Rebind<std::uint16_t, D> narrow;
    const hn::Rebind<std::uint32_t, D> wide;
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(wide, hn::LoadU(narrow, from))));
  }

  static HWY_INLINE VF Total(const VF (&sums)[kSums]) {
    return hn::MulAdd(sums[1], hn::Set(F(), 0.0625f), sums[0]);
  }

  // Blocks b .. end.
  template <int R, int S, bool kAhead>
  HWY_INLINE void Run(std::int64_t row, std::int64_t i, std::int64_t b, std::int64_t end,
                      [[maybe_unused]] Ahead& ahead, VF (&sums)[R][S][kSums]) const {
    const std::uint8_t* w = w_ + row * blocks_ * kBlockBytes;
    const std::uint16_t* scales = scales_ + row * blocks_ * 2;
    const std::int16_t* q = in_.q + i * stride_;
    std::int64_t at = b * kBlockBytes;
    for (; at + kBytes <= end * kBlockBytes; at += kBytes) {
      if (kAhead) ahead.Turn();
      Step<R, S>(w + at, blocks_ * kBlockBytes, scales + at / kBlockBytes * 2, 2, q + 2 * at, sums);
    }
    if (at < end * kBlockBytes) {
      // Half a vector. The activations of the other half are zeros.
      std::uint8_t last[R][kBytes] = {};
      for (int r = 0; r < R; ++r)
        std::memcpy(last[r], w + r * blocks_ * kBlockBytes + at, kBlockBytes);
      Step<R, S>(last[0], kBytes, scales + at / kBlockBytes * 2, 0, q + 2 * at, sums);
    }
  }

  // One vector of weights. `other`: from the scales of its first block to those of its second.
  template <int R, int S>
  HWY_INLINE void Step(const std::uint8_t* rows, std::int64_t row_bytes,
                       const std::uint16_t* scales, [[maybe_unused]] std::int64_t other,
                       const std::int16_t* q, VF (&sums)[R][S][kSums]) const {
    const I16 d;
    constexpr std::int64_t W = hn::MaxLanes(d);
    const hn::RebindToUnsigned<I16> du;
    const hn::RebindToUnsigned<I32> du32;
    const auto first_mask = hn::Set(du, std::uint16_t{0xf});
    const auto second_mask = hn::Set(du, std::uint16_t{0xf0});
    for (int r = 0; r < R; ++r) {
      const auto even = hn::BitCast(du, hn::LoadU(Bytes(), rows + r * row_bytes));
      const auto odd = hn::ShiftRight<8>(even);
      const auto low_even = hn::BitCast(d, hn::And(even, first_mask));
      const auto low_odd = hn::BitCast(d, hn::And(odd, first_mask));
      const auto high_even = hn::BitCast(d, hn::And(even, second_mask));
      const auto high_odd = hn::BitCast(d, hn::And(odd, second_mask));
      const std::uint16_t* scale = scales + r * blocks_ * 2;
      std::uint32_t both;
      std::memcpy(&both, scale, sizeof both);
      auto pair = hn::Set(du32, both);
      if constexpr (kBytes > kBlockBytes) {
        std::memcpy(&both, scale + other, sizeof both);
        pair = hn::ConcatUpperLower(du32, hn::Set(du32, both), pair);
      }
      const auto low_scale = hn::BitCast(F(), hn::ShiftLeft<16>(pair));
      const auto high_scale = hn::BitCast(F(), hn::And(pair, hn::Set(du32, 0xffff0000u)));
      for (int s = 0; s < S; ++s) {
        const std::int16_t* x = q + s * stride_;
        PairSums low, high;
        AddPairs<kDot>(low_even, hn::LoadU(d, x), low);
        AddPairs<kDot>(low_odd, hn::LoadU(d, x + W), low);
        AddPairs<kDot>(high_even, hn::LoadU(d, x + 2 * W), high);
        AddPairs<kDot>(high_odd, hn::LoadU(d, x + 3 * W), high);
        sums[r][s][0] = hn::MulAdd(hn::ConvertTo(F(), low.Total()), low_scale, sums[r][s][0]);
        sums[r][s][1] = hn::MulAdd(hn::ConvertTo(F(), high.Total()), high_scale, sums[r][s][1]);
      }
    }
  }

  const std::uint8_t* w_;
  const std::uint16_t* scales_;
  const Activations& in_;
  std::int64_t N_, blocks_, stride_, groups_at_;
};

// Rows [first, last), few enough for a panel, times S vectors from i on. kLinear: row by row, as
// the memory is read fastest; else R rows at a time, and asking for memory ahead.
template <int S, bool kLinear, class Kernel>
HWY_NOINLINE void Panel(const Kernel& kernel, std::int64_t first, std::int64_t last, std::int64_t i,
                        std::int64_t columns, Ahead& ahead, float* y, std::int64_t stride) {
  static_assert(S <= 4);
  constexpr int R = kLinear ? 1 : Kernel::kRows;
  constexpr std::int64_t kOne = Kernel::kSums * hn::MaxLanes(F());
  HWY_ALIGN float sums[kPanelRows * S * kOne];
  const auto sums_of = [&](std::int64_t row) { return sums + (row - first) * S * kOne; };
  const auto part = [&](auto rows, std::int64_t row, std::int64_t c) HWY_ATTR {
    kernel.template Part<rows.value, S, !kLinear>(row, i, c, std::min(columns, c + kColumns),
                                                  sums_of(row), ahead);
  };
  const std::integral_constant<int, 1> one;
  const std::integral_constant<int, R> several;
  if constexpr (kLinear) {
    for (std::int64_t row = first; row < last; ++row)
      for (std::int64_t c = 0; c < columns; c += kColumns) part(one, row, c);
  } else {
    for (std::int64_t c = 0; c < columns; c += kColumns) {
      std::int64_t row = first;
      for (; row + R <= last; row += R) part(several, row, c);
      for (; row < last; ++row) part(one, row, c);
    }
  }
  for (std::int64_t row = first; row < last; ++row) {
    VF totals[S];
    for (int s = 0; s < S; ++s) totals[s] = hn::Load(F(), sums_of(row) + s * kOne);
    float results[S];
    kernel.template Finish<S>(row, i, totals, results);
    for (int s = 0; s < S; ++s) y[s * stride + row] = results[s];
  }
}
template <int S, bool kLinear, class Kernel>
HWY_INLINE void PanelOf(std::int64_t some, const Kernel& kernel, std::int64_t first,
                        std::int64_t last, std::int64_t i, std::int64_t columns, Ahead& ahead,
                        float* y, std::int64_t stride) {
  if (some == S)
    return Panel<S, kLinear>(kernel, first, last, i, columns, ahead, y + i * stride, stride);
  if constexpr (S > 1)
    PanelOf<S - 1, kLinear>(some, kernel, first, last, i, columns, ahead, y, stride);
}

template <class Kernel>
void Multiply(const Kernel& kernel, const WeightMatrix& matrix, std::int64_t first,
              std::int64_t last, std::int64_t count, float* y, std::int64_t stride) {
  if (count == 1) {
    for (std::int64_t row = first; row < last; ++row) kernel.Row(row, y + row);
    return;
  }
  constexpr std::int64_t R = Kernel::kRows, S = Kernel::kVectors;
  const std::int64_t N = matrix.columns, bytes = matrix.row_bytes(), tiles = (count + S - 1) / S;
  const bool linear = tiles <= Kernel::kLinearTiles && count * N * Kernel::kInBytes <= kInCache;
  const std::int64_t rows = std::clamp(kPanelBytes / bytes / R * R, R, kPanelRows / R * R);
  const std::int64_t step = (R * Kernel::kTurnBytes + tiles - 1) / tiles;
  for (std::int64_t row = first; row < last; row += rows) {
    const std::int64_t end = std::min(last, row + rows);
    // The next panel comes bit by bit while all vectors are multiplied with this one.
    Ahead ahead{matrix.values + end * bytes, step <= kMostAhead ? step : 0};
    if (linear && tiles == 1) {
      PanelOf<S, true>(count, kernel, row, end, 0, N, ahead, y, stride);
      continue;
    }
    const std::int64_t turns = linear ? end - row : 1;  // each one row, or the whole panel
    for (std::int64_t turn = 0; turn < turns; ++turn)
      for (std::int64_t t = 0; t < tiles; ++t) {
        const std::int64_t i = count * t / tiles, some = count * (t + 1) / tiles - i;
        if (linear)
          PanelOf<S, true>(some, kernel, row + turn, row + turn + 1, i, N, ahead, y, stride);
        else
          PanelOf<S, false>(some, kernel, row, end, i, N, ahead, y, stride);
      }
  }
}

template <bool kDot>
void MultiplyIntegers(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                      const Activations& in, float* y, std::int64_t stride) {
  if (matrix.type == WeightType::kInt8)
    return Multiply(Int8Kernel<kDot>(matrix, in), matrix, first, last, in.count, y, stride);
  Multiply(Int4Kernel<kDot>(matrix, in), matrix, first, last, in.count, y, stride);
}

#endif

void MatvecRows(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                const Activations& in, float* y, std::int64_t stride) {
#if HWY_TARGET == HWY_SCALAR
  return matvec_rows_reference(matrix, first, last, in, y, stride);
#else
  if (in.count == 0) return;
  if (matrix.type == WeightType::kF32)
    return Multiply(FloatKernel<Float32>(matrix, in), matrix, first, last, in.count, y, stride);
  if (matrix.type == WeightType::kBF16)
    return Multiply(FloatKernel<BFloat16>(matrix, in), matrix, first, last, in.count, y, stride);
#if HWY_TARGET == HWY_AVX3
  if (uses_dot_instructions())
    MultiplyIntegers<true>(matrix, first, last, in, y, stride);
  else
#endif
    MultiplyIntegers<false>(matrix, first, last, in, y, stride);
  if (matrix.wide.first == nullptr) return;
  for (std::int64_t row = first; row < last; ++row) {
    const auto begin = matrix.wide.first[row], end = matrix.wide.first[row + 1];
    for (std::int64_t i = 0; begin < end && i < in.count; ++i) {
      const float* x = in.x + i * matrix.columns;
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

void matvec_rows_reference(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                           const Activations& activations, float* y, std::int64_t stride) {
  const std::int64_t N = matrix.columns;
  std::vector<float> w(static_cast<std::size_t>(N));
  for (std::int64_t row = first; row < last; ++row) {
    unpack_rows(matrix, row, row + 1, w.data());
    for (std::int64_t i = 0; i < activations.count; ++i) {
      double sum = 0;
      for (std::int64_t c = 0; c < N; ++c)
        sum += static_cast<double>(w[static_cast<std::size_t>(c)]) * activations.x[i * N + c];
      y[i * stride + row] = static_cast<float>(sum);
    }
  }
}

HWY_EXPORT(MatvecRows);
HWY_EXPORT(ReadBytes);

void matvec_rows(const WeightMatrix& matrix, std::int64_t first, std::int64_t last,
                 const Activations& activations, float* y, std::int64_t stride) {
  HWY_DYNAMIC_DISPATCH(MatvecRows)(matrix, first, last, activations, y, stride);
}
std::uint64_t read_bytes(const std::byte* from, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(ReadBytes)(from, count);
}

}  // namespace rwkvx
#endif
