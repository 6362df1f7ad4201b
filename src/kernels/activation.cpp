#include "rwkvx/kernels/activation.h"

#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/activation.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "rwkvx/kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
void SquareForward(float* k, std::int64_t count) {
  ForEach(0, count, [&](auto d, std::int64_t i) {
    const auto x = Relu(d, hn::LoadU(d, k + i));
    hn::StoreU(hn::Mul(x, x), d, k + i);
  });
}

void SquareBackward(const float* h, float* dh, std::int64_t count) {
  ForEach(0, count, [&](auto d, std::int64_t i) {
    const auto root = hn::Sqrt(hn::LoadU(d, h + i));
    hn::StoreU(hn::Mul(hn::Add(root, root), hn::LoadU(d, dh + i)), d, dh + i);
  });
}

void TanhForward(float* k, std::int64_t count) {
  ForEach(0, count, [&](auto d, std::int64_t i) {
    const auto x = hn::LoadU(d, k + i);
    hn::StoreU(hn::IfThenElse(hn::IsNaN(x), x, hn::Tanh(d, x)), d, k + i);
  });
}

void TanhBackward(const float* h, float* dh, std::int64_t count) {
  ForEach(0, count, [&](auto d, std::int64_t i) {
    const auto y = hn::LoadU(d, h + i);
    const auto slope = hn::NegMulAdd(y, y, hn::Set(d, 1.0f));
    hn::StoreU(hn::Mul(slope, hn::LoadU(d, dh + i)), d, dh + i);
  });
}

void SigmoidForward(float* k, std::int64_t count) {
  ForEach(0, count,
          [&](auto d, std::int64_t i) { hn::StoreU(Sigmoid(d, hn::LoadU(d, k + i)), d, k + i); });
}

void SigmoidBackward(const float* h, float* dh, std::int64_t count) {
  ForEach(0, count, [&](auto d, std::int64_t i) {
    const auto y = hn::LoadU(d, h + i);
    hn::StoreU(hn::Mul(hn::NegMulAdd(y, y, y), hn::LoadU(d, dh + i)), d, dh + i);
  });
}

// The numbers of a counter: two rounds of a 32-bit mixing function, of which the last is C.
// Wellons' lowbias32 (public domain, "Prospecting for Hash Functions", 2018).
HWY_INLINE std::uint32_t Mixed(std::uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

void Dropout(float* values, std::int64_t first, std::int64_t count, std::uint64_t key, float p) {
  const float scale = 1 / (1 - p);
  const auto threshold = static_cast<std::uint32_t>(static_cast<double>(p) * 4294967296.0);
  const auto low = static_cast<std::uint32_t>(key), high = static_cast<std::uint32_t>(key >> 32);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto place = static_cast<std::uint64_t>(first + i);
    const auto start =
        Mixed(static_cast<std::uint32_t>(place) ^ low) + static_cast<std::uint32_t>(place >> 32);
    values[i] = Mixed(start ^ high) < threshold ? 0 : values[i] * scale;
  }
}

void Residual(const float* x, const float* o, float* y, std::int64_t count) {
  ForEach(0, count, [&](auto d, std::int64_t i) {
    hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, o + i)), d, y + i);
  });
}

void GatedForward(const float* x, const float* r, const float* v, float* y, std::int64_t count) {
  ForEach(0, count, [&](auto d, std::int64_t i) {
    const auto open = Sigmoid(d, hn::LoadU(d, r + i));
    hn::StoreU(hn::MulAdd(open, hn::LoadU(d, v + i), hn::LoadU(d, x + i)), d, y + i);
  });
}

void GatedBackward(const float* dy, const float* r, const float* v, float* dr, float* dv,
                   std::int64_t count) {
  ForEach(0, count, [&](auto d, std::int64_t i) {
    const auto gate = SplitSigmoid(d, hn::LoadU(d, r + i));
    const auto share = hn::Div(hn::Set(d, 1.0f), gate.whole);
    const auto through = hn::Mul(hn::LoadU(d, dy + i), hn::Mul(gate.share, share));
    const auto closed = hn::Mul(gate.rest, share);
    // The largest factor last: what is closed must not overflow on the way.
    hn::StoreU(hn::Mul(hn::Mul(through, closed), hn::LoadU(d, v + i)), d, dr + i);
    hn::StoreU(through, d, dv + i);
  });
}

double RowLoss(float* logits, std::int64_t vocab, std::int64_t target, float scale, float l2wrap) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto largest = hn::Set(d, -std::numeric_limits<float>::infinity());
  auto bad = hn::IsNaN(largest);
  std::int64_t i = 0;
  for (; i + lanes <= vocab; i += lanes) {
    const auto x = hn::LoadU(d, logits + i);
    largest = hn::Max(largest, x);
    bad = hn::Or(bad, hn::IsNaN(x));
  }
  float top = hn::GetLane(hn::MaxOfLanes(d, largest));
  for (; i < vocab; ++i) top = logits[i] > top ? logits[i] : top;
  // Neither a maximum nor an exponential is bound to let NaN through. (The rest's is.)
  if (HWY_UNLIKELY(!hn::AllFalse(d, bad))) top = std::numeric_limits<float>::quiet_NaN();
  const float wanted = logits[target];
  if (l2wrap != 0 && scale != 0) {
    for (i = 0; i < vocab && logits[i] != top;) ++i;
  }
  const std::int64_t top_at = i;

  // Sums in blocks, so that float32 loses nothing over a large vocabulary.
  constexpr std::int64_t kBlock = 2048;
  double sum = 0;
  for (std::int64_t begin = 0; begin < vocab; begin += kBlock) {
    const std::int64_t end = begin + kBlock < vocab ? begin + kBlock : vocab;
    auto part = hn::Zero(d);
    for (i = begin; i + lanes <= end; i += lanes) {
      const auto e = hn::Exp(d, hn::Sub(hn::LoadU(d, logits + i), hn::Set(d, top)));  // of <= 0
      part = hn::Add(part, e);
      if (scale != 0) hn::StoreU(e, d, logits + i);
    }
    for (; i < end; ++i) {
      const float e = std::exp(logits[i] - top);
      sum += static_cast<double>(e);
      if (scale != 0) logits[i] = e;
    }
    sum += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, part)));
  }
  const double loss = std::log(sum) + static_cast<double>(top) - static_cast<double>(wanted);
  if (scale == 0) return loss;
  const auto factor = static_cast<float>(static_cast<double>(scale) / sum);
  ForEach(0, vocab, [&](auto tag, std::int64_t at) {
    hn::StoreU(hn::Mul(hn::LoadU(tag, logits + at), hn::Set(tag, factor)), tag, logits + at);
  });
  logits[target] -= scale;
  if (l2wrap != 0 && top_at < vocab) logits[top_at] += scale * l2wrap * top;
  return loss;
}

void AddTo(float* y, const float* x, std::int64_t count) { Residual(y, x, y, count); }

}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {

HWY_EXPORT(SquareForward);
HWY_EXPORT(SquareBackward);
HWY_EXPORT(TanhForward);
HWY_EXPORT(TanhBackward);
HWY_EXPORT(SigmoidForward);
HWY_EXPORT(SigmoidBackward);
HWY_EXPORT(Dropout);
HWY_EXPORT(Residual);
HWY_EXPORT(GatedForward);
HWY_EXPORT(GatedBackward);
HWY_EXPORT(RowLoss);
HWY_EXPORT(AddTo);

void relu_square_forward(float* k, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(SquareForward)(k, count);
}
void relu_square_backward(const float* h, float* dh, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(SquareBackward)(h, dh, count);
}
void tanh_forward(float* k, std::int64_t count) { HWY_DYNAMIC_DISPATCH(TanhForward)(k, count); }
void tanh_backward(const float* h, float* dh, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(TanhBackward)(h, dh, count);
}
void sigmoid_forward(float* k, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(SigmoidForward)(k, count);
}
void sigmoid_backward(const float* h, float* dh, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(SigmoidBackward)(h, dh, count);
}
void dropout_in_place(float* values, std::int64_t first, std::int64_t count, std::uint64_t key,
                      float p) {
  HWY_DYNAMIC_DISPATCH(Dropout)(values, first, count, key, p);
}
void residual_forward(const float* x, const float* o, float* y, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(Residual)(x, o, y, count);
}
void gated_residual_forward(const float* x, const float* r, const float* v, float* y,
                            std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(GatedForward)(x, r, v, y, count);
}
void gated_residual_backward(const float* dy, const float* r, const float* v, float* dr, float* dv,
                             std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(GatedBackward)(dy, r, v, dr, dv, count);
}
double cross_entropy_row(float* logits, std::int64_t vocab, std::int64_t target, float scale,
                         float l2wrap) {
  return HWY_DYNAMIC_DISPATCH(RowLoss)(logits, vocab, target, scale, l2wrap);
}
void add_to(float* y, const float* x, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(AddTo)(y, x, count);
}

}  // namespace rwkvx
#endif
