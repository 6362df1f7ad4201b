#include "cores/rwkv7/head_kernel.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cores/rwkv7/wkv_kernel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cores/rwkv7/head_kernel.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "rwkvx/kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rwkvx::rwkv7 {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using rwkvx::HWY_NAMESPACE::AskAhead;
using rwkvx::HWY_NAMESPACE::ExpBelow;
using rwkvx::HWY_NAMESPACE::ForEach;
using rwkvx::HWY_NAMESPACE::kRowsAhead;
using rwkvx::HWY_NAMESPACE::MeanScale;
using rwkvx::HWY_NAMESPACE::MomentsOf;
using rwkvx::HWY_NAMESPACE::Sigmoid;

// Arrays of a segment of one head, (kWkv7Segment, N) each.
class Segment {
 public:
  explicit Segment(std::int64_t N) : floats_(kWkv7Segment * N) {
    thread_local std::vector<float> memory;
    const auto wanted =
        static_cast<std::size_t>(kArrays * floats_ + wkv7_backward_scratch(N) + N * N + 16);
    if (memory.size() < wanted) memory.resize(wanted);
    begin_ = memory.data();
    begin_ += (64 - reinterpret_cast<std::uintptr_t>(begin_) % 64) % 64 / sizeof(float);
  }
  // What the recurrence takes and gives.
  float* d() const { return array(0); }
  float* k() const { return array(1); }
  float* v() const { return array(2); }
  float* z() const { return array(3); }
  float* b() const { return array(4); }
  float* r() const { return array(5); }
  float* y() const { return array(6); }
  // For the adjoint: the decay's logistic, the learning rate, the share of v_first.
  float* decay() const { return array(7); }
  float* rate() const { return array(8); }
  float* share() const { return array(9); }
  // Gradients of y, r, d, k, v, z, b by the recurrence, and of r, k, v by the bonus.
  float* grad(int i) const { return array(10 + i); }
  float* bonus_grad(int i) const { return array(17 + i); }
  float* scratch() const { return array(kArrays); }
  float* state_grad(std::int64_t N) const { return scratch() + wkv7_backward_scratch(N); }
  // 1 / norm of each token's removal key.
  float inverse[kWkv7Segment];

 private:
  static constexpr std::int64_t kArrays = 20;
  float* array(std::int64_t i) const { return begin_ + i * floats_; }
  std::int64_t floats_;
  float* begin_;
};

// The head's part of rows and parameters.
HeadWeights WeightsOf(HeadWeights all, std::int64_t at) {
  for (auto** one :
       {&all.w0, &all.a0, &all.v0, &all.k_k, &all.k_a, &all.r_k, &all.norm_weight, &all.norm_bias})
    if (*one != nullptr) *one += at;
  return all;
}
HeadRows RowsOf(HeadRows all, std::int64_t at) {
  for (auto** one : {&all.r, &all.k, &all.v, &all.g, &all.w, &all.a, &all.share, &all.v_first})
    if (*one != nullptr) *one += at;
  return all;
}

constexpr std::int64_t kLine = 16;  // numbers of a line of the cache

// What the recurrence takes of tokens first .. first + count. r stays where it is unless
// `for_adjoint`.
void FindInputs(const HeadWeights& weights, const HeadRows& rows, std::int64_t first,
                std::int64_t count, bool for_adjoint, Segment& to) {
  const std::int64_t N = weights.size;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t at = (first + i) * rows.stride, own = i * N;
    // Segments of tokens follow each other, in the adjoint from the last to the first.
    const std::int64_t ahead = at + (for_adjoint ? -kRowsAhead : kRowsAhead) * rows.stride;
    for (std::int64_t c = 0; c < N; c += kLine)
      AskAhead(ahead + c, rows.k, rows.w, rows.a, rows.v, rows.r, rows.g, rows.share, rows.v_first);
    const hn::ScalableTag<float> full;
    auto squares = hn::Zero(full);
    float rest = 0;
    ForEach(0, N, [&](auto d, std::int64_t c) {
      const auto kk = hn::Mul(hn::LoadU(d, rows.k + at + c), hn::LoadU(d, weights.k_k + c));
      hn::StoreU(kk, d, to.z() + own + c);
      if constexpr (std::is_same_v<decltype(d), hn::ScalableTag<float>>)
        squares = hn::MulAdd(kk, kk, squares);
      else
        rest += hn::GetLane(kk) * hn::GetLane(kk);
    });
    const float norm = std::sqrt(hn::GetLane(hn::SumOfLanes(full, squares)) + rest);
    const float inverse = norm < kLeastNorm ? 1 / kLeastNorm : 1 / norm;
    to.inverse[i] = inverse;
    ForEach(0, N, [&](auto d, std::int64_t c) {
      using V = hn::VFromD<decltype(d)>;
      const V one = hn::Set(d, 1.0f);
      const V k = hn::LoadU(d, rows.k + at + c);
      const V kappa = hn::Mul(hn::LoadU(d, to.z() + own + c), hn::Set(d, inverse));
      const V decay =
          Sigmoid(d, hn::Add(hn::LoadU(d, rows.w + at + c), hn::LoadU(d, weights.w0 + c)));
      const V rate =
          Sigmoid(d, hn::Add(hn::LoadU(d, rows.a + at + c), hn::LoadU(d, weights.a0 + c)));
      V v = hn::LoadU(d, rows.v + at + c);
      if (weights.v0 != nullptr) {
        const V share =
            Sigmoid(d, hn::Add(hn::LoadU(d, rows.share + at + c), hn::LoadU(d, weights.v0 + c)));
        v = hn::MulAdd(hn::Sub(hn::LoadU(d, rows.v_first + at + c), v), share, v);
        if (for_adjoint) hn::StoreU(share, d, to.share() + own + c);
      }
      hn::StoreU(ExpBelow(d, hn::Mul(hn::Set(d, static_cast<float>(kDecayScale)), decay)), d,
                 to.d() + own + c);
      hn::StoreU(hn::Mul(k, hn::MulAdd(hn::Sub(rate, one), hn::LoadU(d, weights.k_a + c), one)), d,
                 to.k() + own + c);
      hn::StoreU(v, d, to.v() + own + c);
      hn::StoreU(hn::Neg(kappa), d, to.z() + own + c);
      hn::StoreU(hn::Mul(kappa, rate), d, to.b() + own + c);
      hn::StoreU(hn::LoadU(d, rows.r + at + c), d, to.r() + own + c);
      if (!for_adjoint) return;
      hn::StoreU(decay, d, to.decay() + own + c);
      hn::StoreU(rate, d, to.rate() + own + c);
    });
  }
}

// The sum over the channels of f(d, c).
template <class F>
HWY_INLINE float SumOver(std::int64_t N, const F& f) {
  const hn::ScalableTag<float> full;
  auto sum = hn::Zero(full);
  float rest = 0;
  ForEach(0, N, [&](auto d, std::int64_t c) {
    if constexpr (std::is_same_v<decltype(d), hn::ScalableTag<float>>)
      sum = hn::Add(sum, f(d, c));
    else
      rest += hn::GetLane(f(d, c));
  });
  return hn::GetLane(hn::SumOfLanes(full, sum)) + rest;
}

// sum r k r_k: how much of the token's own value is added.
HWY_INLINE float Bonus(const HeadWeights& weights, const float* r, const float* k) {
  return SumOver(weights.size, [&](auto d, std::int64_t c) {
    return hn::Mul(hn::Mul(hn::LoadU(d, r + c), hn::LoadU(d, k + c)),
                   hn::LoadU(d, weights.r_k + c));
  });
}

void Forward(const HeadForward& call, std::int64_t head) {
  const std::int64_t N = call.weights.size, at = head * N, T = call.rows.tokens,
                     stride = call.rows.stride;
  const auto weights = WeightsOf(call.weights, at);
  const auto rows = RowsOf(call.rows, at);
  Segment own(N);
  const float* state = call.state_in;
  float* const carried = call.state_out != nullptr ? call.state_out : own.state_grad(N);
  for (std::int64_t first = 0; first < T; first += kWkv7Segment) {
    const std::int64_t count = std::min(kWkv7Segment, T - first);
    FindInputs(weights, rows, first, count, /*for_adjoint=*/false, own);
    wkv7_forward(Wkv7Forward<float>{
        count, N, N, own.r(), own.d(), own.k(), own.v(), own.z(), own.b(), state, carried, own.y(),
        call.kept == nullptr ? nullptr : call.kept + first / kWkv7Segment * N * N});
    state = carried;
    for (std::int64_t i = 0; i < count; ++i) {
      const float *y = own.y() + i * N, *v = own.v() + i * N;
      const std::int64_t row = (first + i) * stride;
      if (call.y != nullptr)
        std::memcpy(call.y + at + row, y, static_cast<std::size_t>(N) * sizeof(float));
      const MeanScale moments = MomentsOf(y, N, kHeadNormEpsilon);
      const float bonus = Bonus(weights, own.r() + i * N, own.k() + i * N);
      ForEach(0, N, [&](auto d, std::int64_t c) {
        const auto n = hn::Mul(hn::Sub(hn::LoadU(d, y + c), hn::Set(d, moments.mean)),
                               hn::Set(d, moments.scale));
        const auto normal = hn::MulAdd(n, hn::LoadU(d, weights.norm_weight + c),
                                       hn::LoadU(d, weights.norm_bias + c));
        const auto sum = hn::MulAdd(hn::Set(d, bonus), hn::LoadU(d, v + c), normal);
        hn::StoreU(hn::Mul(sum, hn::LoadU(d, rows.g + row + c)), d, call.out + at + row + c);
      });
    }
  }
}

// Rows of the parameters' gradients.
enum Sum { kW0, kA0, kV0, kKK, kKA, kRK, kNormWeight, kNormBias };

template <class D, class V>
HWY_INLINE void AddAt(D d, V value, float* to) {
  hn::StoreU(hn::Add(value, hn::LoadU(d, to)), d, to);
}

// From the gradient of the output of one token to those of the gate, the recurrence's y, and what
// the bonus gives to r, k, v.
void OutputAdjoint(const HeadWeights& weights, const HeadBackward& call, const float* g,
                   const float* y, const float* grad_out, std::int64_t i, Segment& own,
                   float* grad_g, float* sums) {
  const std::int64_t N = weights.size, stride = call.rows.stride;
  const float *r = own.r() + i * N, *k = own.k() + i * N, *v = own.v() + i * N;
  float *dy = own.grad(0) + i * N, *dr = own.bonus_grad(0) + i * N, *dk = own.bonus_grad(1) + i * N,
        *dv = own.bonus_grad(2) + i * N;
  const MeanScale moments = MomentsOf(y, N, kHeadNormEpsilon);
  const float bonus = Bonus(weights, r, k);
  // dv holds the normalized y, and dr the gradient of the sum, until the last loop.
  ForEach(0, N, [&](auto d, std::int64_t c) {
    const auto out = hn::LoadU(d, grad_out + c);
    const auto n =
        hn::Mul(hn::Sub(hn::LoadU(d, y + c), hn::Set(d, moments.mean)), hn::Set(d, moments.scale));
    const auto weight = hn::LoadU(d, weights.norm_weight + c);
    const auto normal = hn::MulAdd(n, weight, hn::LoadU(d, weights.norm_bias + c));
    const auto sum = hn::MulAdd(hn::Set(d, bonus), hn::LoadU(d, v + c), normal);
    const auto grad = hn::Mul(out, hn::LoadU(d, g + c));
    hn::StoreU(hn::Mul(out, sum), d, grad_g + c);
    hn::StoreU(grad, d, dr + c);
    hn::StoreU(n, d, dv + c);
    hn::StoreU(hn::Mul(grad, weight), d, dy + c);
    AddAt(d, hn::Mul(grad, n), sums + kNormWeight * stride + c);
    AddAt(d, grad, sums + kNormBias * stride + c);
  });
  const float mean = SumOver(N, [&](auto d, std::int64_t c) { return hn::LoadU(d, dy + c); }) /
                     static_cast<float>(N);
  const float along = SumOver(N,
                              [&](auto d, std::int64_t c) {
                                return hn::Mul(hn::LoadU(d, dy + c), hn::LoadU(d, dv + c));
                              }) /
                      static_cast<float>(N);
  const float of_bonus = SumOver(N, [&](auto d, std::int64_t c) {
    return hn::Mul(hn::LoadU(d, dr + c), hn::LoadU(d, v + c));
  });
  ForEach(0, N, [&](auto d, std::int64_t c) {
    const auto n = hn::LoadU(d, dv + c), grad = hn::LoadU(d, dr + c);
    const auto inner =
        hn::NegMulAdd(n, hn::Set(d, along), hn::Sub(hn::LoadU(d, dy + c), hn::Set(d, mean)));
    hn::StoreU(hn::Mul(inner, hn::Set(d, moments.scale)), d, dy + c);
    const auto rr = hn::LoadU(d, r + c), kk = hn::LoadU(d, k + c),
               r_k = hn::LoadU(d, weights.r_k + c);
    const auto share = hn::Set(d, of_bonus);
    hn::StoreU(hn::Mul(hn::Set(d, bonus), grad), d, dv + c);
    hn::StoreU(hn::Mul(share, hn::Mul(kk, r_k)), d, dr + c);
    hn::StoreU(hn::Mul(share, hn::Mul(rr, r_k)), d, dk + c);
    AddAt(d, hn::Mul(share, hn::Mul(rr, kk)), sums + kRK * stride + c);
  });
}

// From the gradients of what the recurrence takes to those of one token's rows.
void InputAdjoint(const HeadWeights& weights, const HeadRows& rows, const HeadBackward& call,
                  std::int64_t at, std::int64_t row, std::int64_t i, Segment& own, float* sums) {
  const std::int64_t N = weights.size, stride = rows.stride, mine = i * N;
  const auto of = [&](int which) { return own.grad(which) + mine; };
  const float *dr = of(1), *dd = of(2), *dk = of(3), *dv = of(4), *dz = of(5), *db = of(6);
  const float *z = own.z() + mine, *rate = own.rate() + mine;
  const auto kappa_grad = [&](auto d, std::int64_t c) {
    return hn::MulSub(hn::LoadU(d, db + c), hn::LoadU(d, rate + c), hn::LoadU(d, dz + c));
  };
  // kappa . its gradient; a norm below the least is a constant.
  const float inverse = own.inverse[i];
  const float along = inverse >= 1 / kLeastNorm ? 0 : SumOver(N, [&](auto d, std::int64_t c) {
    return hn::NegMulAdd(hn::LoadU(d, z + c), kappa_grad(d, c), hn::Zero(d));
  });
  ForEach(0, N, [&](auto d, std::int64_t c) {
    using V = hn::VFromD<decltype(d)>;
    const V one = hn::Set(d, 1.0f);
    const auto place = at + row + c;
    const V k = hn::LoadU(d, rows.k + row + c), a = hn::LoadU(d, rate + c);
    const V kappa = hn::Neg(hn::LoadU(d, z + c));
    const V bonus_r = hn::LoadU(d, own.bonus_grad(0) + mine + c),
            bonus_k = hn::LoadU(d, own.bonus_grad(1) + mine + c),
            bonus_v = hn::LoadU(d, own.bonus_grad(2) + mine + c);
    const V k_k = hn::LoadU(d, weights.k_k + c), k_a = hn::LoadU(d, weights.k_a + c);
    const V grad_key = hn::Add(hn::LoadU(d, dk + c), bonus_k);
    const V grad_kk =
        hn::Mul(hn::NegMulAdd(kappa, hn::Set(d, along), kappa_grad(d, c)), hn::Set(d, inverse));
    const V a_less = hn::Sub(a, one);
    const V grad_k = hn::MulAdd(grad_key, hn::MulAdd(a_less, k_a, one), hn::Mul(grad_kk, k_k));
    AddAt(d, hn::Mul(grad_kk, k), sums + kKK * stride + c);
    AddAt(d, hn::Mul(grad_key, hn::Mul(k, a_less)), sums + kKA * stride + c);
    V grad_a = hn::MulAdd(hn::LoadU(d, db + c), kappa, hn::Mul(grad_key, hn::Mul(k, k_a)));
    grad_a = hn::Mul(grad_a, hn::Mul(a, hn::Sub(one, a)));
    AddAt(d, grad_a, sums + kA0 * stride + c);
    const V decay = hn::LoadU(d, own.decay() + mine + c);
    V grad_w = hn::Mul(hn::LoadU(d, dd + c), hn::LoadU(d, own.d() + mine + c));
    grad_w = hn::Mul(hn::Mul(grad_w, hn::Set(d, static_cast<float>(kDecayScale))),
                     hn::Mul(decay, hn::Sub(one, decay)));
    AddAt(d, grad_w, sums + kW0 * stride + c);
    V grad_v = hn::Add(hn::LoadU(d, dv + c), bonus_v);
    float* first = call.grad_v_first + place;
    if (weights.v0 != nullptr) {
      const V share = hn::LoadU(d, own.share() + mine + c);
      const V away = hn::Sub(hn::LoadU(d, rows.v_first + row + c), hn::LoadU(d, rows.v + row + c));
      const V grad_share = hn::Mul(hn::Mul(grad_v, away), hn::Mul(share, hn::Sub(one, share)));
      AddAt(d, hn::Mul(grad_v, share), first);
      grad_v = hn::Mul(grad_v, hn::Sub(one, share));
      hn::StoreU(grad_share, d, call.grad_share + place);
      AddAt(d, grad_share, sums + kV0 * stride + c);
    } else {
      grad_v = hn::Add(grad_v, hn::LoadU(d, first));
    }
    hn::StoreU(hn::Add(hn::LoadU(d, dr + c), bonus_r), d, call.grad_r + place);
    hn::StoreU(grad_k, d, call.grad_k + place);
    hn::StoreU(grad_v, d, call.grad_v + place);
    hn::StoreU(grad_w, d, call.grad_w + place);
    hn::StoreU(grad_a, d, call.grad_a + place);
  });
}

void Backward(const HeadBackward& call, std::int64_t head) {
  const std::int64_t N = call.weights.size, at = head * N, T = call.rows.tokens,
                     stride = call.rows.stride;
  const auto weights = WeightsOf(call.weights, at);
  const auto rows = RowsOf(call.rows, at);
  Segment own(N);
  float* sums = call.sums + at;
  for (std::int64_t i = 0; i < kHeadGradRows; ++i)
    std::memset(sums + i * stride, 0, static_cast<std::size_t>(N) * sizeof(float));
  const float* state_grad = call.grad_state_out;
  for (std::int64_t segment = wkv7_segments(T) - 1; segment >= 0; --segment) {
    const std::int64_t first = segment * kWkv7Segment, count = std::min(kWkv7Segment, T - first);
    FindInputs(weights, rows, first, count, /*for_adjoint=*/true, own);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t row = (first + i) * stride;
      for (std::int64_t c = 0; c < N; c += kLine)
        AskAhead(at + row - kRowsAhead * stride + c, call.y, call.grad_out);
      OutputAdjoint(weights, call, rows.g + row, call.y + at + row, call.grad_out + at + row, i,
                    own, call.grad_g + at + row, sums);
    }
    wkv7_backward(Wkv7Backward<float>{
        count,       N,           N,           own.r(),           own.d(),
        own.k(),     own.v(),     own.z(),     own.b(),           call.kept + segment * N * N,
        own.grad(0), state_grad,  own.grad(1), own.grad(2),       own.grad(3),
        own.grad(4), own.grad(5), own.grad(6), own.state_grad(N), own.scratch()});
    state_grad = own.state_grad(N);
    for (std::int64_t i = 0; i < count; ++i)
      InputAdjoint(weights, rows, call, at, (first + i) * stride, i, own, sums);
  }
  if (call.grad_state_in != nullptr)
    std::memcpy(call.grad_state_in, state_grad, static_cast<std::size_t>(N * N) * sizeof(float));
}

}  // namespace HWY_NAMESPACE
}  // namespace rwkvx::rwkv7
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx::rwkv7 {

HWY_EXPORT(Forward);
HWY_EXPORT(Backward);

void head_forward(const HeadForward& call, std::int64_t head) {
  HWY_DYNAMIC_DISPATCH(Forward)(call, head);
}
void head_backward(const HeadBackward& call, std::int64_t head) {
  HWY_DYNAMIC_DISPATCH(Backward)(call, head);
}

}  // namespace rwkvx::rwkv7
#endif
