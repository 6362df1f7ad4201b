#include "cores/rwkv7/wkv_kernel.h"

#include <algorithm>
#include <utility>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cores/rwkv7/wkv_kernel.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "rwkvx/kernels/simd-inl.h"
// clang-format on

#ifndef RWKVX_CORES_RWKV7_WKV_SHARED
#define RWKVX_CORES_RWKV7_WKV_SHARED
namespace rwkvx {
// Rows of the state that are walked through a segment together.
constexpr std::int64_t kWkv7Rows = 4;
// The arrays of a segment, packed: rows of a stride that is a power of two would share few sets of
// the cache. Forward: up to v, then y. Backward: up to grad_y, and of the gradients up to v.
enum Wkv7Array {
  kR,
  kD,
  kK,
  kZ,
  kB,
  kV,
  kGradY,
  kWkv7Arrays,
  kY = kGradY,
  kWkv7Gradients = kGradY
};
// Bytes, those of the widest vector.
constexpr std::int64_t kWkv7Alignment = 64;
template <class Real>
Real* AlignedStart(Real* room) {
  const auto over = reinterpret_cast<std::uintptr_t>(room) % kWkv7Alignment;
  return over == 0 ? room : room + (kWkv7Alignment - over) / sizeof(Real);
}
}  // namespace rwkvx
#endif

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {

constexpr std::int64_t kRows = kWkv7Rows;

// One vector of each row.
template <class D>
struct OfRows {
  hn::VFromD<D> row[kRows];
};
// One number of each row, in every lane.
template <class D, class Real = hn::TFromD<D>>
HWY_INLINE OfRows<D> Spread(D d, const Real* numbers) {
  return {{hn::Set(d, numbers[0]), hn::Set(d, numbers[1]), hn::Set(d, numbers[2]),
           hn::Set(d, numbers[3])}};
}
template <class D>
HWY_INLINE OfRows<D> Nothing(D d) {
  return {{hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)}};
}

// Whether four rows can be added while they are transposed: floats in blocks of four lanes.
template <class D>
constexpr bool HasBlocks() {
  return HWY_TARGET != HWY_SCALAR && sizeof(hn::TFromD<D>) == 4 && hn::MaxLanes(D()) >= 4 &&
         hn::MaxLanes(D()) <= 16;
}
#if HWY_TARGET != HWY_SCALAR
// Every block of four lanes <- the sums over the lanes of the four rows.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V SumBlocks(D d, const OfRows<D>& parts) {
  const hn::RepartitionToWide<D> pairs;
  const auto add = [&](V a, V b) {
    return hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
  };
  const auto low = hn::BitCast(pairs, add(parts.row[0], parts.row[1]));
  const auto high = hn::BitCast(pairs, add(parts.row[2], parts.row[3]));
  V sums = hn::Add(hn::BitCast(d, hn::InterleaveLower(pairs, low, high)),
                   hn::BitCast(d, hn::InterleaveUpper(pairs, low, high)));
  if constexpr (hn::MaxLanes(D()) == 16) sums = hn::Add(sums, hn::SwapAdjacentBlocks(sums));
  if constexpr (hn::MaxLanes(D()) >= 8) sums = hn::Add(sums, hn::ConcatLowerUpper(d, sums, sums));
  return sums;
}
#endif

// The sum over the lanes of each row, in every lane.
template <class D>
HWY_INLINE OfRows<D> SumRows(D d, const OfRows<D>& parts) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (HasBlocks<D>()) {
    const auto sums = SumBlocks(d, parts);
    return {{hn::Broadcast<0>(sums), hn::Broadcast<1>(sums), hn::Broadcast<2>(sums),
             hn::Broadcast<3>(sums)}};
  }
#endif
  OfRows<D> sums;
  for (std::int64_t i = 0; i < kRows; ++i) sums.row[i] = hn::SumOfLanes(d, parts.row[i]);
  return sums;
}
// The same as four numbers in a row.
template <class D, class Real = hn::TFromD<D>>
HWY_INLINE void StoreSums(D d, const OfRows<D>& parts, Real* to) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (HasBlocks<D>()) {
    const auto sums = SumBlocks(d, parts);
    if constexpr (hn::MaxLanes(D()) == 16)
      hn::StoreU(hn::LowerHalf(hn::LowerHalf(sums)), hn::Half<hn::Half<D>>(), to);
    else if constexpr (hn::MaxLanes(D()) == 8)
      hn::StoreU(hn::LowerHalf(sums), hn::Half<D>(), to);
    else
      hn::StoreU(sums, d, to);
    return;
  }
#endif
  for (std::int64_t i = 0; i < kRows; ++i) to[i] = hn::GetLane(hn::SumOfLanes(d, parts.row[i]));
}

// kRows rows of a matrix (N, N): in registers where `kVectors` is the number of vectors of a row,
// in memory where it is 0.
template <class D, int kVectors>
class Rows {
 public:
  using V = hn::VFromD<D>;
  HWY_INLINE V Get(D, int i, int c) const { return at_[i][c]; }
  HWY_INLINE void Set(D, int i, int c, V value) { at_[i][c] = value; }

 private:
  V at_[kRows][kVectors];
};
template <class D>
class Rows<D, 0> {
 public:
  using V = hn::VFromD<D>;
  HWY_INLINE V Get(D d, int i, int c) const { return hn::Load(d, Address(i, c)); }
  HWY_INLINE void Set(D d, int i, int c, V value) { hn::Store(value, d, Address(i, c)); }

 private:
  using Real = hn::TFromD<D>;
  HWY_INLINE Real* Address(int i, int c) const {
    return at_ + i * kWkv7LargestSize + c * static_cast<int>(hn::Lanes(D()));
  }
  HWY_ALIGN mutable Real at_[kRows * kWkv7LargestSize];
};

// Calls run(c) for the vectors of a row.
template <int kVectors, class D, class Run>
HWY_INLINE void ForVectors(D, std::int64_t N, const Run& run) {
  if constexpr (kVectors > 0) {
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c) run(c);
  } else {
    const int vectors = static_cast<int>(N / static_cast<std::int64_t>(hn::Lanes(D())));
    for (int c = 0; c < vectors; ++c) run(c);
  }
}
template <class Run>
HWY_INLINE void ForRows(const Run& run) {
#pragma GCC unroll 4
  for (int i = 0; i < static_cast<int>(kRows); ++i) run(i);
}

template <int kVectors, class D, class Real = hn::TFromD<D>>
HWY_INLINE void LoadRows(D d, std::int64_t N, const Real* from, Rows<D, kVectors>& rows) {
  const int lanes = static_cast<int>(hn::Lanes(d));
  ForVectors<kVectors>(d, N, [&](int c) {
    ForRows([&](int i) {
      rows.Set(d, i, c, from == nullptr ? hn::Zero(d) : hn::LoadU(d, from + i * N + c * lanes));
    });
  });
}
template <int kVectors, class D, class Real = hn::TFromD<D>>
HWY_INLINE void StoreRows(D d, std::int64_t N, const Rows<D, kVectors>& rows, Real* to) {
  const int lanes = static_cast<int>(hn::Lanes(d));
  ForVectors<kVectors>(d, N, [&](int c) {
    ForRows([&](int i) { hn::StoreU(rows.Get(d, i, c), d, to + i * N + c * lanes); });
  });
}

// The arrays of up to kWkv7Segment steps of N channels, (steps, arrays, N).
template <int kArrays, int kVectors, class D>
class Packed {
 public:
  using Real = hn::TFromD<D>;
  HWY_INLINE Packed(D, std::int64_t N, Real* rows) : size_(N), rows_(rows) {}
  HWY_INLINE Real* Row(std::int64_t t, int array) const {
    return rows_ + (t * kArrays + array) * Size();
  }
  HWY_INLINE void Fill(D d, int array, const Real* from, std::int64_t stride, std::int64_t steps) {
    for (std::int64_t t = 0; t < steps; ++t) Copy(d, from + t * stride, Row(t, array));
  }
  HWY_INLINE void Drain(D d, int array, Real* to, std::int64_t stride, std::int64_t steps) const {
    for (std::int64_t t = 0; t < steps; ++t) Copy(d, Row(t, array), to + t * stride);
  }

 private:
  HWY_INLINE std::int64_t Size() const {
    return kVectors > 0 ? kVectors * static_cast<std::int64_t>(hn::Lanes(D())) : size_;
  }
  HWY_INLINE void Copy(D d, const Real* from, Real* to) const {
    const int lanes = static_cast<int>(hn::Lanes(d));
    ForVectors<kVectors>(
        d, size_, [&](int c) { hn::StoreU(hn::LoadU(d, from + c * lanes), d, to + c * lanes); });
  }
  std::int64_t size_;
  Real* rows_;
};
template <class PackedArrays, class D, class Call>
HWY_INLINE void FillInputs(D d, const Call& call, std::int64_t begin, std::int64_t steps,
                           PackedArrays& packed) {
  const std::int64_t at = begin * call.stride;
  packed.Fill(d, kR, call.r + at, call.stride, steps);
  packed.Fill(d, kD, call.d + at, call.stride, steps);
  packed.Fill(d, kK, call.k + at, call.stride, steps);
  packed.Fill(d, kZ, call.z + at, call.stride, steps);
  packed.Fill(d, kB, call.b + at, call.stride, steps);
  packed.Fill(d, kV, call.v + at, call.stride, steps);
}

// Takes rows of a state, the first of which is row `first`, through step t: s <- s diag(d) + sa b^T
// + v k^T with sa = s z, which it returns. Calls use(i, c, s) for each vector of the new state, by
// columns, and done(c) after each column.
template <int kVectors, class D, class Inputs, class Use, class Done>
HWY_INLINE OfRows<D> TakeStep(D d, std::int64_t N, const Inputs& in, std::int64_t t,
                              std::int64_t first, Rows<D, kVectors>& rows, const Use& use,
                              const Done& done) {
  const int lanes = static_cast<int>(hn::Lanes(d));
  auto parts = Nothing(d);
  ForVectors<kVectors>(d, N, [&](int c) {
    const auto z = hn::Load(d, in.Row(t, kZ) + c * lanes);
    ForRows([&](int i) { parts.row[i] = hn::MulAdd(rows.Get(d, i, c), z, parts.row[i]); });
  });
  const auto sa = SumRows(d, parts), v = Spread(d, in.Row(t, kV) + first);
  ForVectors<kVectors>(d, N, [&](int c) {
    const auto decay = hn::Load(d, in.Row(t, kD) + c * lanes);
    const auto k = hn::Load(d, in.Row(t, kK) + c * lanes);
    const auto b = hn::Load(d, in.Row(t, kB) + c * lanes);
    ForRows([&](int i) {
      const auto kept = hn::MulAdd(rows.Get(d, i, c), decay, hn::Mul(v.row[i], k));
      const auto s = hn::MulAdd(sa.row[i], b, kept);
      rows.Set(d, i, c, s);
      use(i, c, s);
    });
    done(c);
  });
  return sa;
}

// kRows rows of a state through the steps of one segment.
template <int kVectors, class D>
HWY_INLINE void ForwardRows(D d, std::int64_t N, const Packed<kWkv7Arrays, kVectors, D>& arrays,
                            std::int64_t steps, std::int64_t first, Rows<D, kVectors>& rows) {
  const int lanes = static_cast<int>(hn::Lanes(d));
  for (std::int64_t t = 0; t < steps; ++t) {
    auto y = Nothing(d);
    auto r = hn::Zero(d);
    TakeStep(
        d, N, arrays, t, first, rows,
        [&](int i, int c, auto s) {
          if (i == 0) r = hn::Load(d, arrays.Row(t, kR) + c * lanes);
          y.row[i] = hn::MulAdd(s, r, y.row[i]);
        },
        [](int) {});
    StoreSums(d, y, arrays.Row(t, kY) + first);
  }
}

template <int kVectors, class D, class Real = hn::TFromD<D>>
void ForwardHead(D d, const Wkv7Forward<Real>& call) {
  constexpr std::int64_t kLargest =
      kVectors > 0 ? kVectors * static_cast<std::int64_t>(hn::MaxLanes(D())) : kWkv7LargestSize;
  HWY_ALIGN Real room[kWkv7Segment * kWkv7Arrays * kLargest];
  const std::int64_t N = call.size, segments = wkv7_segments(call.steps);
  Packed<kWkv7Arrays, kVectors, D> arrays(d, N, room);
  // Where the state stays between segments: the next kept one, or state_out.
  std::vector<Real> spare;
  if (segments > 1 && call.kept == nullptr && call.state_out == nullptr)
    spare.resize(static_cast<std::size_t>(N * N));
  Real* const between = call.state_out != nullptr ? call.state_out : spare.data();
  const Real* from = call.state_in;
  for (std::int64_t segment = 0; segment < segments; ++segment) {
    const std::int64_t begin = segment * kWkv7Segment;
    const std::int64_t steps = std::min(kWkv7Segment, call.steps - begin);
    FillInputs(d, call, begin, steps, arrays);
    Real* const kept = call.kept == nullptr ? nullptr : call.kept + segment * N * N;
    const bool last = segment + 1 == segments;
    Real* const to = last ? call.state_out : kept != nullptr ? kept + N * N : between;
    for (std::int64_t first = 0; first < N; first += kRows) {
      const std::int64_t at = first * N;
      Rows<D, kVectors> rows;
      LoadRows(d, N, from == nullptr ? nullptr : from + at, rows);
      if (segment == 0 && kept != nullptr) StoreRows(d, N, rows, kept + at);
      ForwardRows(d, N, arrays, steps, first, rows);
      if (to != nullptr) StoreRows(d, N, rows, to + at);
    }
    arrays.Drain(d, kY, call.y + begin * call.stride, call.stride, steps);
    from = to;
  }
}

// kRows rows of a state and of its adjoint, backwards through the steps of one segment. `states`
// has room for those rows before each step. kFirst: these rows assign the gradients that are sums
// over all rows, else they add to them.
template <bool kFirst, int kVectors, class D, class Real = hn::TFromD<D>>
HWY_INLINE void BackwardRows(D d, std::int64_t N, const Packed<kWkv7Arrays, kVectors, D>& in,
                             const Packed<kWkv7Gradients, kVectors, D>& grads, std::int64_t steps,
                             std::int64_t first, const Real* kept, Real* states,
                             const Real* adjoint_in, Real* adjoint_out) {
  using V = hn::VFromD<D>;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const int width = kVectors > 0 ? kVectors * lanes : static_cast<int>(N);
  const auto before = [&](const Real* sum) { return kFirst ? hn::Zero(d) : hn::Load(d, sum); };
  HWY_ALIGN Real sas[kWkv7Segment * kRows];
  // The states once more, and with them the gradients of r.
  {
    Rows<D, kVectors> rows;
    LoadRows(d, N, kept, rows);
    for (std::int64_t t = 0; t < steps; ++t) {
      StoreRows(d, width, rows, states + t * kRows * width);
      const auto dy = Spread(d, in.Row(t, kGradY) + first);
      Real* const grad_r = grads.Row(t, kR);
      V dr = hn::Zero(d);
      const auto sa = TakeStep(
          d, N, in, t, first, rows,
          [&](int i, int c, V s) {
            if (i == 0) dr = before(grad_r + c * lanes);
            dr = hn::MulAdd(s, dy.row[i], dr);
          },
          [&](int c) { hn::Store(dr, d, grad_r + c * lanes); });
      for (std::int64_t i = 0; i < kRows; ++i) sas[t * kRows + i] = hn::GetLane(sa.row[i]);
    }
  }
  Rows<D, kVectors> adjoint;
  LoadRows(d, N, adjoint_in, adjoint);
  for (std::int64_t t = steps - 1; t >= 0; --t) {
    const Real* const state = states + t * kRows * width;
    const auto dy = Spread(d, in.Row(t, kGradY) + first), v = Spread(d, in.Row(t, kV) + first);
    const auto sa = Spread(d, sas + t * kRows);
    auto dsa_parts = Nothing(d), dv_parts = Nothing(d);
    ForVectors<kVectors>(d, N, [&](int c) {
      const int at = c * lanes;
      const V r = hn::Load(d, in.Row(t, kR) + at), b = hn::Load(d, in.Row(t, kB) + at);
      const V k = hn::Load(d, in.Row(t, kK) + at);
      V dd = before(grads.Row(t, kD) + at), dk = before(grads.Row(t, kK) + at);
      V db = before(grads.Row(t, kB) + at);
      ForRows([&](int i) {
        const V ds = hn::MulAdd(dy.row[i], r, adjoint.Get(d, i, c));
        adjoint.Set(d, i, c, ds);
        dsa_parts.row[i] = hn::MulAdd(ds, b, dsa_parts.row[i]);
        dv_parts.row[i] = hn::MulAdd(ds, k, dv_parts.row[i]);
        dd = hn::MulAdd(hn::LoadU(d, state + i * width + at), ds, dd);
        dk = hn::MulAdd(ds, v.row[i], dk);
        db = hn::MulAdd(ds, sa.row[i], db);
      });
      hn::Store(dd, d, grads.Row(t, kD) + at);
      hn::Store(dk, d, grads.Row(t, kK) + at);
      hn::Store(db, d, grads.Row(t, kB) + at);
    });
    const auto dsa = SumRows(d, dsa_parts);
    StoreSums(d, dv_parts, grads.Row(t, kV) + first);
    ForVectors<kVectors>(d, N, [&](int c) {
      const int at = c * lanes;
      const V decay = hn::Load(d, in.Row(t, kD) + at), z = hn::Load(d, in.Row(t, kZ) + at);
      V dz = before(grads.Row(t, kZ) + at);
      ForRows([&](int i) {
        dz = hn::MulAdd(hn::LoadU(d, state + i * width + at), dsa.row[i], dz);
        adjoint.Set(d, i, c, hn::MulAdd(adjoint.Get(d, i, c), decay, hn::Mul(dsa.row[i], z)));
      });
      hn::Store(dz, d, grads.Row(t, kZ) + at);
    });
  }
  StoreRows(d, N, adjoint, adjoint_out);
}

template <int kVectors, class D, class Real = hn::TFromD<D>>
void BackwardHead(D d, const Wkv7Backward<Real>& call) {
  const std::int64_t N = call.size;
  Real* next = AlignedStart(call.scratch);
  const auto take = [&](std::int64_t count) { return std::exchange(next, next + count); };
  Packed<kWkv7Arrays, kVectors, D> in(d, N, take(kWkv7Segment * kWkv7Arrays * N));
  Packed<kWkv7Gradients, kVectors, D> grads(d, N, take(kWkv7Segment * kWkv7Gradients * N));
  Real* const states = take(kWkv7Segment * kRows * N);
  Real* const between = call.grad_state_in != nullptr ? call.grad_state_in : take(N * N);
  const Real* from = call.grad_state_out;
  for (std::int64_t segment = wkv7_segments(call.steps) - 1; segment >= 0; --segment) {
    const std::int64_t begin = segment * kWkv7Segment, stride = call.stride;
    const std::int64_t steps = std::min(kWkv7Segment, call.steps - begin);
    FillInputs(d, call, begin, steps, in);
    in.Fill(d, kGradY, call.grad_y + begin * stride, stride, steps);
    const Real* const kept = call.kept + segment * N * N;
    const auto run = [&]<bool kFirst>(std::int64_t first) {
      const std::int64_t at = first * N;
      BackwardRows<kFirst, kVectors>(d, N, in, grads, steps, first, kept + at, states,
                                     from == nullptr ? nullptr : from + at, between + at);
    };
    run.template operator()<true>(0);
    for (std::int64_t first = kRows; first < N; first += kRows)
      run.template operator()<false>(first);
    from = between;
    Real* const to[] = {call.grad_r, call.grad_d, call.grad_k,
                        call.grad_z, call.grad_b, call.grad_v};
    for (int array = 0; array < kWkv7Gradients; ++array)
      grads.Drain(d, array, to[array] + begin * stride, stride, steps);
  }
}

// Calls run<kVectors>(d) with the widest vectors that N is a multiple of. Where N is one of the
// usual sizes its loops are unrolled, and kRows rows are held in registers as far as there are
// enough: 64 channels in the 32 registers of AVX-512. Where half of them do not fit, as on AVX2,
// this is still up to 1.7 times as fast as loops over rows in memory.
template <class Real, class Run>
HWY_INLINE void WithVectors(std::int64_t N, const Run& run) {
  const hn::ScalableTag<Real> widest;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(widest));
  if constexpr (HasBlocks<hn::ScalableTag<Real>>()) {
    if (N == 8 * lanes) return run.template operator()<8>(widest);
    if (N == 4 * lanes) return run.template operator()<4>(widest);
    if (N == 2 * lanes) return run.template operator()<2>(widest);
  }
  if (N % lanes == 0)
    run.template operator()<0>(widest);
  else
    run.template operator()<0>(hn::CappedTag<Real, 8>());
}

template <class Real>
void ForwardAll(const Wkv7Forward<Real>& call) {
  WithVectors<Real>(call.size, [&]<int kVectors>(auto d) { ForwardHead<kVectors>(d, call); });
}
template <class Real>
void BackwardAll(const Wkv7Backward<Real>& call) {
  WithVectors<Real>(call.size, [&]<int kVectors>(auto d) { BackwardHead<kVectors>(d, call); });
}

void Forward32(const Wkv7Forward<float>& call) { ForwardAll(call); }
void Forward64(const Wkv7Forward<double>& call) { ForwardAll(call); }
void Backward32(const Wkv7Backward<float>& call) { BackwardAll(call); }
void Backward64(const Wkv7Backward<double>& call) { BackwardAll(call); }

}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {

HWY_EXPORT(Forward32);
HWY_EXPORT(Forward64);
HWY_EXPORT(Backward32);
HWY_EXPORT(Backward64);

// For a segment the packed arrays and kWkv7Rows rows of its states, the adjoint of the state
// between segments, and what aligning takes.
std::int64_t wkv7_backward_scratch(std::int64_t size) {
  return (kWkv7Segment * (kWkv7Arrays + kWkv7Gradients + kWkv7Rows) + size) * size +
         kWkv7Alignment / 4;
}

void wkv7_forward(const Wkv7Forward<float>& call) { HWY_DYNAMIC_DISPATCH(Forward32)(call); }
void wkv7_forward(const Wkv7Forward<double>& call) { HWY_DYNAMIC_DISPATCH(Forward64)(call); }
void wkv7_backward(const Wkv7Backward<float>& call) { HWY_DYNAMIC_DISPATCH(Backward32)(call); }
void wkv7_backward(const Wkv7Backward<double>& call) { HWY_DYNAMIC_DISPATCH(Backward64)(call); }

}  // namespace rwkvx
#endif
