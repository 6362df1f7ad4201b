// What the vectorized kernels share: loops over whole vectors and the rest, and functions that are
// right for every float, infinities and NaN included. Included once per instruction set, as
// Highway's own *-inl.h files are.
#if defined(RWKVX_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RWKVX_KERNELS_SIMD_INL_H_
#undef RWKVX_KERNELS_SIMD_INL_H_
#else
#define RWKVX_KERNELS_SIMD_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <cmath>
#include <cstdint>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr float kNormEpsilon = 1e-5f;

// Sums in float64 that do not depend on the length of vectors: number i goes into sum i % kSums.
constexpr std::int64_t kSums = 8;
using D64 = hn::CappedTag<double, kSums>;
using V64 = hn::VFromD<D64>;
constexpr std::int64_t kLanes64 = hn::MaxLanes(D64());
constexpr std::int64_t kVectors = kSums / kLanes64;

struct Sums {
  V64 of[kVectors];
  HWY_INLINE Sums() {
    for (auto& one : of) one = hn::Zero(D64());
  }
  HWY_INLINE double Total() const {
    HWY_ALIGN double all[kSums];
    for (std::int64_t v = 0; v < kVectors; ++v) hn::Store(of[v], D64(), all + v * kLanes64);
    double total = 0;
    for (const double one : all) total += one;
    return total;
  }
};

// Calls whole(d, i) for whole vectors of [first, last), then single(d, i) for the rest one by one.
template <class Real, class Whole, class Single>
HWY_INLINE void ForEachOf(std::int64_t first, std::int64_t last, const Whole& whole,
                          const Single& single) {
  const hn::ScalableTag<Real> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = first;
  for (; i + lanes <= last; i += lanes) whole(d, i);
  for (; i < last; ++i) single(hn::CappedTag<Real, 1>(), i);
}

// Calls run(d, i) for whole vectors of floats in [first, last), then for the rest one by one.
template <class Run>
HWY_INLINE void ForEach(std::int64_t first, std::int64_t last, const Run& run) {
  ForEachOf<float>(first, last, run, run);
}

// Of loops down a column, whose rows lie so far apart that the CPU does not see what comes next:
// asks for the numbers `at` places from each array, which need not be there. Into the second cache,
// as rows a power of two apart share few places of the first.
constexpr std::int64_t kRowsAhead = 16;
template <class... Arrays>
HWY_INLINE void AskAhead(std::int64_t at, const Arrays*... arrays) {
  // Within a function that is not inlined GCC takes it for nothing.
  (__builtin_prefetch(
       reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(arrays) +
                                     static_cast<std::uintptr_t>(at) * sizeof(Arrays)),
       0, 2),
   ...);
}

// Highway's Min, Max and comparisons leave open what they make of NaN; these let it through.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V AtMost(D d, V x, double limit) {
  const V top = hn::Set(d, static_cast<hn::TFromD<D>>(limit));
  return hn::IfThenElse(hn::Gt(x, top), top, x);
}
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V AtLeast(D d, V x, double limit) {
  const V bottom = hn::Set(d, static_cast<hn::TFromD<D>>(limit));
  return hn::IfThenElse(hn::Lt(x, bottom), bottom, x);
}
// max(x, 0).
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V Relu(D d, V x) {
  return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x);
}

// e^x for x <= 80 (any x below, -infinity too) and NaN. Highway's Exp makes 0 of NaN, and beyond
// about 88 (float32) or 709 (float64) its results are no exponentials.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V ExpBelow(D d, V x) {
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(d, x));
}
// e^x for every x.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V ExpAnywhere(D d, V x) {
  const double largest = sizeof(hn::TFromD<D>) == 4 ? 88.7228 : 709.7827;
  const V y = ExpBelow(d, AtMost(d, x, largest));
  const auto over = hn::Gt(x, hn::Set(d, static_cast<hn::TFromD<D>>(largest)));
  return hn::IfThenElse(over, hn::Set(d, std::numeric_limits<hn::TFromD<D>>::infinity()), y);
}

// sigmoid(x) = share / whole and 1 - sigmoid(x) = rest / whole, none above 2, for where a division
// follows anyway. Only exponentials of numbers <= 0 are taken, so neither end of the range is lost.
template <class V>
struct SigmoidParts {
  V share, rest, whole;
};
template <class D, class V = hn::VFromD<D>>
HWY_INLINE SigmoidParts<V> SplitSigmoid(D d, V x) {
  const V one = hn::Set(d, hn::TFromD<D>(1));
  const V e = ExpBelow(d, hn::Neg(hn::Abs(x)));
  const auto below = hn::Lt(x, hn::Zero(d));
  return {hn::IfThenElse(below, e, one), hn::IfThenElse(below, one, e), hn::Add(one, e)};
}
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V Sigmoid(D d, V x) {
  const auto parts = SplitSigmoid(d, x);
  return hn::Div(parts.share, parts.whole);
}

// Mean and 1 / standard deviation of a row, for its layer norm.
struct MeanScale {
  float mean, scale;
};

// In float64, for rows whose sums or squares leave the range of float32.
inline HWY_NOINLINE MeanScale MomentsInDouble(const float* x, std::int64_t channels,
                                              float epsilon) {
  double sum = 0, squares = 0;
  for (std::int64_t c = 0; c < channels; ++c) sum += static_cast<double>(x[c]);
  const double mean = sum / static_cast<double>(channels);
  for (std::int64_t c = 0; c < channels; ++c) {
    const double away = static_cast<double>(x[c]) - mean;
    squares += away * away;
  }
  const double variance = squares / static_cast<double>(channels);
  return {static_cast<float>(mean),
          static_cast<float>(1 / std::sqrt(variance + static_cast<double>(epsilon)))};
}

HWY_INLINE MeanScale MomentsOf(const float* x, std::int64_t channels,
                               float epsilon = kNormEpsilon) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto sum = hn::Zero(d);
  std::int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) sum = hn::Add(sum, hn::LoadU(d, x + c));
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; c < channels; ++c) total += x[c];
  const float mean = total / static_cast<float>(channels);
  const auto center = hn::Set(d, mean);
  auto squares = hn::Zero(d);
  for (c = 0; c + lanes <= channels; c += lanes) {
    const auto away = hn::Sub(hn::LoadU(d, x + c), center);
    squares = hn::MulAdd(away, away, squares);
  }
  float variance = hn::GetLane(hn::SumOfLanes(d, squares));
  for (; c < channels; ++c) variance += (x[c] - mean) * (x[c] - mean);
  if (HWY_UNLIKELY(!(variance <= std::numeric_limits<float>::max())))
    return MomentsInDouble(x, channels, epsilon);
  return {mean, 1 / std::sqrt(variance / static_cast<float>(channels) + epsilon)};
}

// (x - mean) scale weight + bias at one vector of channels.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V NormalOf(D d, const float* x, const MeanScale& moments, V weight, V bias) {
  const auto away = hn::Sub(hn::LoadU(d, x), hn::Set(d, moments.mean));
  return hn::MulAdd(hn::Mul(away, hn::Set(d, moments.scale)), weight, bias);
}

// dx += scale (dn - mean dn - n mean(dn n)), n the normalized row and dn its gradient.
HWY_INLINE void AddNormGradient(const float* n, const float* dn, float scale, std::int64_t C,
                                float* dx) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto sum = hn::Zero(d), product = hn::Zero(d);
  std::int64_t c = 0;
  for (; c + lanes <= C; c += lanes) {
    const auto g = hn::LoadU(d, dn + c);
    sum = hn::Add(sum, g);
    product = hn::MulAdd(g, hn::LoadU(d, n + c), product);
  }
  float mean = hn::GetLane(hn::SumOfLanes(d, sum));
  float along = hn::GetLane(hn::SumOfLanes(d, product));
  for (; c < C; ++c) mean += dn[c], along += dn[c] * n[c];
  mean /= static_cast<float>(C), along /= static_cast<float>(C);
  ForEach(0, C, [&](auto tag, std::int64_t i) {
    const auto inner = hn::NegMulAdd(hn::LoadU(tag, n + i), hn::Set(tag, along),
                                     hn::Sub(hn::LoadU(tag, dn + i), hn::Set(tag, mean)));
    hn::StoreU(hn::MulAdd(inner, hn::Set(tag, scale), hn::LoadU(tag, dx + i)), tag, dx + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#endif
