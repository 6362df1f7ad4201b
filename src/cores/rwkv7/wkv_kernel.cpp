#include "cores/rwkv7/wkv_kernel.h"

#include <algorithm>
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
}  // namespace rwkvx
#endif

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {

constexpr std::int64_t kRows = kWkv7Rows;

// One number of each row, in every lane.
template <class D>
struct OfRows {
  hn::VFromD<D> row[kRows];
};
template <class D, class Real = hn::TFromD<D>>
HWY_INLINE OfRows<D> Spread(D d, const Real* numbers) {
  return {{hn::Set(d, numbers[0]), hn::Set(d, numbers[1]), hn::Set(d, numbers[2]),
           hn::Set(d, numbers[3])}};
}
template <class D>
HWY_INLINE OfRows<D> Nothing(D d) {
  return {{hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)}};
}

// The sum over the lanes of each row.
template <class D, class Real = hn::TFromD<D>>
HWY_INLINE void SumRows(D d, const OfRows<D>& parts, Real* sums) {
  for (std::int64_t i = 0; i < kRows; ++i) sums[i] = hn::GetLane(hn::SumOfLanes(d, parts.row[i]));
}

// A step's rows of the arrays.
template <class Real>
struct StepRows {
  const Real *r, *d, *k, *v, *z, *b;
  template <class Call>
  HWY_INLINE StepRows(const Call& call, std::int64_t t)
      : r(call.r + t * call.stride),
        d(call.d + t * call.stride),
        k(call.k + t * call.stride),
        v(call.v + t * call.stride),
        z(call.z + t * call.stride),
        b(call.b + t * call.stride) {}
};

// Rows of the state times a vector.
template <class D, class Real = hn::TFromD<D>>
HWY_INLINE void TimesVector(D d, std::int64_t N, const Real* state, const Real* x, Real* sums) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto parts = Nothing(d);
  for (std::int64_t c = 0; c < N; c += lanes) {
    const auto x_c = hn::LoadU(d, x + c);
    for (std::int64_t i = 0; i < kRows; ++i)
      parts.row[i] = hn::MulAdd(hn::LoadU(d, state + i * N + c), x_c, parts.row[i]);
  }
  SumRows(d, parts, sums);
}

// after <- before diag(d) + sa b^T + v k^T, rows first to first + kRows.
template <class D, class Real = hn::TFromD<D>>
HWY_INLINE void Advance(D d, std::int64_t N, const StepRows<Real>& step, std::int64_t first,
                        const Real* sa, const Real* before, Real* after) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto sas = Spread(d, sa), vs = Spread(d, step.v + first);
  for (std::int64_t c = 0; c < N; c += lanes) {
    const auto d_c = hn::LoadU(d, step.d + c), b_c = hn::LoadU(d, step.b + c);
    const auto k_c = hn::LoadU(d, step.k + c);
    for (std::int64_t i = 0; i < kRows; ++i) {
      const auto old = hn::LoadU(d, before + i * N + c);
      const auto aged = hn::MulAdd(old, d_c, hn::Mul(vs.row[i], k_c));
      hn::StoreU(hn::MulAdd(sas.row[i], b_c, aged), d, after + i * N + c);
    }
  }
}

// kRows rows of a state through one segment.
template <class D, class Real = hn::TFromD<D>>
void ForwardRows(D d, const Wkv7Forward<Real>& call, std::int64_t begin, std::int64_t end,
                 std::int64_t first, Real* rows) {
  const std::int64_t N = call.size;
  for (std::int64_t t = begin; t < end; ++t) {
    const StepRows<Real> step(call, t);
    Real sa[kRows];
    TimesVector(d, N, rows, step.z, sa);
    Advance(d, N, step, first, sa, rows, rows);
    TimesVector(d, N, rows, step.r, call.y + t * call.stride + first);
  }
}

template <class D, class Real = hn::TFromD<D>>
void ForwardHead(D d, const Wkv7Forward<Real>& call) {
  const std::int64_t N = call.size, segments = wkv7_segments(call.steps);
  HWY_ALIGN Real rows[kRows * kWkv7LargestSize];
  // Where the state stays between segments: the next kept one, or state_out.
  std::vector<Real> spare;
  if (segments > 1 && call.kept == nullptr && call.state_out == nullptr)
    spare.resize(static_cast<std::size_t>(N * N));
  Real* const between = call.state_out != nullptr ? call.state_out : spare.data();
  const Real* from = call.state_in;
  for (std::int64_t segment = 0; segment < segments; ++segment) {
    const std::int64_t begin = segment * kWkv7Segment;
    const std::int64_t end = std::min(begin + kWkv7Segment, call.steps);
    Real* const kept = call.kept == nullptr ? nullptr : call.kept + segment * N * N;
    const bool last = segment + 1 == segments;
    Real* const to = last ? call.state_out : kept != nullptr ? kept + N * N : between;
    for (std::int64_t first = 0; first < N; first += kRows) {
      const std::int64_t at = first * N, count = kRows * N;
      if (from != nullptr)
        std::copy_n(from + at, count, rows);
      else
        std::fill_n(rows, count, Real(0));
      if (segment == 0 && kept != nullptr) std::copy_n(rows, count, kept + at);
      ForwardRows(d, call, begin, end, first, rows);
      if (to != nullptr) std::copy_n(rows, count, to + at);
    }
    from = to;
  }
}

// kRows rows of a state and of its adjoint, backwards through one segment. `states` has room for
// those rows before each step and after the last.
template <class D, class Real = hn::TFromD<D>>
void BackwardRows(D d, const Wkv7Backward<Real>& call, std::int64_t begin, std::int64_t end,
                  std::int64_t first, Real* states, Real* adjoint) {
  const std::int64_t N = call.size, count = kRows * N;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  Real sa[kWkv7Segment][kRows];
  for (std::int64_t t = begin; t < end; ++t) {  // the states, once more
    const StepRows<Real> step(call, t);
    Real* const before = states + (t - begin) * count;
    TimesVector(d, N, before, step.z, sa[t - begin]);
    Advance(d, N, step, first, sa[t - begin], before, before + count);
  }
  const bool adds = first > 0;  // to what the rows above have given
  const auto add = [&](auto value, Real* to) {
    hn::StoreU(adds ? hn::Add(hn::LoadU(d, to), value) : value, d, to);
  };
  for (std::int64_t t = end - 1; t >= begin; --t) {
    const StepRows<Real> step(call, t);
    const std::int64_t row = t * call.stride;
    const Real* const before = states + (t - begin) * count;
    const Real* const after = before + count;
    const auto dys = Spread(d, call.grad_y + row + first), vs = Spread(d, step.v + first);
    const auto sas = Spread(d, sa[t - begin]);
    auto dsa_parts = Nothing(d), dv_parts = Nothing(d);
    for (std::int64_t c = 0; c < N; c += lanes) {
      const auto r_c = hn::LoadU(d, step.r + c), b_c = hn::LoadU(d, step.b + c);
      const auto k_c = hn::LoadU(d, step.k + c);
      auto dr = hn::Zero(d), dd = dr, dk = dr, db = dr;
      for (std::int64_t i = 0; i < kRows; ++i) {
        const std::int64_t at = i * N + c;
        const auto ds = hn::MulAdd(dys.row[i], r_c, hn::LoadU(d, adjoint + at));
        hn::StoreU(ds, d, adjoint + at);
        dsa_parts.row[i] = hn::MulAdd(ds, b_c, dsa_parts.row[i]);
        dv_parts.row[i] = hn::MulAdd(ds, k_c, dv_parts.row[i]);
        dr = hn::MulAdd(hn::LoadU(d, after + at), dys.row[i], dr);
        dd = hn::MulAdd(hn::LoadU(d, before + at), ds, dd);
        dk = hn::MulAdd(ds, vs.row[i], dk);
        db = hn::MulAdd(ds, sas.row[i], db);
      }
      add(dr, call.grad_r + row + c);
      add(dd, call.grad_d + row + c);
      add(dk, call.grad_k + row + c);
      add(db, call.grad_b + row + c);
    }
    SumRows(d, dv_parts, call.grad_v + row + first);
    Real dsa[kRows];
    SumRows(d, dsa_parts, dsa);
    const auto dsas = Spread(d, dsa);
    for (std::int64_t c = 0; c < N; c += lanes) {
      const auto d_c = hn::LoadU(d, step.d + c), z_c = hn::LoadU(d, step.z + c);
      auto dz = hn::Zero(d);
      for (std::int64_t i = 0; i < kRows; ++i) {
        const std::int64_t at = i * N + c;
        dz = hn::MulAdd(hn::LoadU(d, before + at), dsas.row[i], dz);
        const auto ds = hn::LoadU(d, adjoint + at);
        hn::StoreU(hn::MulAdd(ds, d_c, hn::Mul(dsas.row[i], z_c)), d, adjoint + at);
      }
      add(dz, call.grad_z + row + c);
    }
  }
}

template <class D, class Real = hn::TFromD<D>>
void BackwardHead(D d, const Wkv7Backward<Real>& call) {
  const std::int64_t N = call.size, count = kRows * N;
  Real* const states = call.scratch + N * N;
  Real* const between = call.grad_state_in != nullptr ? call.grad_state_in : call.scratch;
  const Real* from = call.grad_state_out;
  HWY_ALIGN Real adjoint[kRows * kWkv7LargestSize];
  for (std::int64_t segment = wkv7_segments(call.steps) - 1; segment >= 0; --segment) {
    const std::int64_t begin = segment * kWkv7Segment;
    const std::int64_t end = std::min(begin + kWkv7Segment, call.steps);
    for (std::int64_t first = 0; first < N; first += kRows) {
      const std::int64_t at = first * N;
      if (from != nullptr)
        std::copy_n(from + at, count, adjoint);
      else
        std::fill_n(adjoint, count, Real(0));
      std::copy_n(call.kept + segment * N * N + at, count, states);
      BackwardRows(d, call, begin, end, first, states, adjoint);
      std::copy_n(adjoint, count, between + at);
    }
    from = between;
  }
}

// Calls run(d) with the widest vectors that N is a multiple of.
template <class Real, class Run>
HWY_INLINE void WithVectors(std::int64_t N, const Run& run) {
  const hn::ScalableTag<Real> widest;
  if (N % static_cast<std::int64_t>(hn::Lanes(widest)) == 0)
    run(widest);
  else
    run(hn::CappedTag<Real, 8>());
}

template <class Real>
void ForwardAll(const Wkv7Forward<Real>& call) {
  WithVectors<Real>(call.size, [&](auto d) { ForwardHead(d, call); });
}
template <class Real>
void BackwardAll(const Wkv7Backward<Real>& call) {
  WithVectors<Real>(call.size, [&](auto d) { BackwardHead(d, call); });
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

// The adjoint of the state between segments, and the states of a segment of kWkv7Rows rows.
std::int64_t wkv7_backward_scratch(std::int64_t size) {
  return size * size + (kWkv7Segment + 1) * kWkv7Rows * size;
}

void wkv7_forward(const Wkv7Forward<float>& call) { HWY_DYNAMIC_DISPATCH(Forward32)(call); }
void wkv7_forward(const Wkv7Forward<double>& call) { HWY_DYNAMIC_DISPATCH(Forward64)(call); }
void wkv7_backward(const Wkv7Backward<float>& call) { HWY_DYNAMIC_DISPATCH(Backward32)(call); }
void wkv7_backward(const Wkv7Backward<double>& call) { HWY_DYNAMIC_DISPATCH(Backward64)(call); }

}  // namespace rwkvx
#endif
