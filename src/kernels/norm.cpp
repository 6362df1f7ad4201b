#include "rwkvx/kernels/norm.h"

#include <cmath>
#include <cstring>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/norm.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "rwkvx/kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
Moments RowMoments(const float* x, std::int64_t channels) {
  const auto found = MomentsOf(x, channels);
  return {found.mean, found.scale};
}

void Normalize(const float* x, Moments moments, const float* weight, const float* bias,
               std::int64_t first, std::int64_t last, float* y) {
  const MeanScale given{moments.mean, moments.scale};
  ForEach(first, last, [&](auto d, std::int64_t c) {
    hn::StoreU(NormalOf(d, x + c, given, hn::LoadU(d, weight + c), hn::LoadU(d, bias + c)), d,
               y + c);
  });
}

void NormForward(const float* x, const float* weight, const float* bias, std::int64_t C,
                 std::int64_t first, std::int64_t last, float* y) {
  for (std::int64_t t = first; t < last; ++t) {
    const MeanScale moments = MomentsOf(x + t * C, C);
    ForEach(0, C, [&](auto d, std::int64_t c) {
      const auto n = hn::Mul(hn::Sub(hn::LoadU(d, x + t * C + c), hn::Set(d, moments.mean)),
                             hn::Set(d, moments.scale));
      hn::StoreU(hn::MulAdd(n, hn::LoadU(d, weight + c), hn::LoadU(d, bias + c)), d, y + t * C + c);
    });
  }
}

void NormBackward(const float* x, const float* weight, const float* dy, std::int64_t C,
                  std::int64_t first, std::int64_t last, float* dx, float* grads) {
  thread_local std::vector<float> n, dn;
  n.resize(static_cast<std::size_t>(C));
  dn.resize(static_cast<std::size_t>(C));
  std::memset(grads, 0, static_cast<std::size_t>(2 * C) * sizeof(float));
  for (std::int64_t t = first; t < last; ++t) {
    const MeanScale moments = MomentsOf(x + t * C, C);
    ForEach(0, C, [&](auto d, std::int64_t c) {
      const auto row = hn::Mul(hn::Sub(hn::LoadU(d, x + t * C + c), hn::Set(d, moments.mean)),
                               hn::Set(d, moments.scale));
      const auto g = hn::LoadU(d, dy + t * C + c);
      hn::StoreU(row, d, n.data() + c);
      hn::StoreU(hn::Mul(g, hn::LoadU(d, weight + c)), d, dn.data() + c);
      hn::StoreU(hn::MulAdd(g, row, hn::LoadU(d, grads + c)), d, grads + c);
      hn::StoreU(hn::Add(g, hn::LoadU(d, grads + C + c)), d, grads + C + c);
      hn::StoreU(hn::Zero(d), d, dx + t * C + c);
    });
    AddNormGradient(n.data(), dn.data(), moments.scale, C, dx + t * C);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {

HWY_EXPORT(RowMoments);
HWY_EXPORT(Normalize);
HWY_EXPORT(NormForward);
HWY_EXPORT(NormBackward);

Moments row_moments(const float* x, std::int64_t channels) {
  return HWY_DYNAMIC_DISPATCH(RowMoments)(x, channels);
}
void normalize(const float* x, Moments moments, const float* weight, const float* bias,
               std::int64_t first, std::int64_t last, float* y) {
  HWY_DYNAMIC_DISPATCH(Normalize)(x, moments, weight, bias, first, last, y);
}
void layer_norm_forward(const float* x, const float* weight, const float* bias,
                        std::int64_t channels, std::int64_t first, std::int64_t last, float* y) {
  HWY_DYNAMIC_DISPATCH(NormForward)(x, weight, bias, channels, first, last, y);
}
void layer_norm_backward(const float* x, const float* weight, const float* dy,
                         std::int64_t channels, std::int64_t first, std::int64_t last, float* dx,
                         float* grads) {
  HWY_DYNAMIC_DISPATCH(NormBackward)(x, weight, dy, channels, first, last, dx, grads);
}

}  // namespace rwkvx
#endif
