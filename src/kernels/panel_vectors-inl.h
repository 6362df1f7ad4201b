// Vectors of a panel's rows. Included once per instruction set, as Highway's own *-inl.h files are.
#if defined(RWKVX_KERNELS_PANEL_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RWKVX_KERNELS_PANEL_VECTORS_INL_H_
#undef RWKVX_KERNELS_PANEL_VECTORS_INL_H_
#else
#define RWKVX_KERNELS_PANEL_VECTORS_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

#include "rwkvx/kernels/weight_panels.h"

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Not more lanes than a panel has rows.
using F = hn::CappedTag<float, kPanelRows>;
using I32 = hn::Rebind<std::int32_t, F>;
using U32 = hn::Rebind<std::uint32_t, F>;
using VF = hn::VFromD<F>;
using V32 = hn::VFromD<I32>;
using VU = hn::VFromD<U32>;

constexpr std::int64_t kLanes = hn::MaxLanes(F());

// bfloat16 numbers that are the low halves.
HWY_INLINE VF FromBf16(VU low) { return hn::BitCast(F(), hn::ShiftLeft<16>(low)); }
HWY_INLINE VF LoadBf16(const std::uint16_t* from) {
  const hn::Rebind<std::uint16_t, F> narrow;
  return FromBf16(hn::PromoteTo(U32(), hn::LoadU(narrow, from)));
}

}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#endif
