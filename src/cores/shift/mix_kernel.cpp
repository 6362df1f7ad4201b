#include "cores/shift/mix_kernel.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cores/shift/mix_kernel.cpp"
// This order makes the unit compile once per instruction set.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "rwkvx/kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rwkvx {
namespace HWY_NAMESPACE {
using Full = hn::ScalableTag<float>;

// Rows of one task, the first of which is token `begin`.
struct Tile {
  std::vector<float> a, da, scale;
  std::int64_t begin = 0;
};

Tile& ThreadTile() {
  thread_local Tile tile;
  return tile;
}

// Normalized inputs of tokens [begin, end), without weight and bias; those of tokens before the
// sequence are marked by the caller, who takes them from the ring.
void NormalizeRows(const ShiftMixSite& site, const ShiftMixSequence& sequence, std::int64_t begin,
                   std::int64_t end, Tile& tile) {
  const std::int64_t C = site.channels;
  tile.begin = begin;
  tile.a.resize(static_cast<std::size_t>((end - begin) * C));
  tile.scale.resize(static_cast<std::size_t>(end - begin));
  for (std::int64_t t = std::max<std::int64_t>(begin, 0); t < end; ++t) {
    const float* x = sequence.x + t * C;
    float* row = tile.a.data() + (t - begin) * C;
    const MeanScale moments = MomentsOf(x, C);
    tile.scale[static_cast<std::size_t>(t - begin)] = moments.scale;
    ForEach(0, C, [&](auto d, std::int64_t c) {
      const auto away = hn::Sub(hn::LoadU(d, x + c), hn::Set(d, moments.mean));
      hn::StoreU(hn::Mul(away, hn::Set(d, moments.scale)), d, row + c);
    });
  }
}

// One site at one vector of channels: its parameters in registers.
template <int K, bool kGated, class D>
struct Column {
  using V = hn::VFromD<D>;
  static constexpr int kRows = K > 0 ? K : 1;
  D d;
  std::int64_t c, channels;
  const ShiftMixSequence& sequence;
  const Tile& tile;
  V weight, bias, conv[kRows], gate_x, gate_s, gate_b;

  HWY_INLINE Column(D tag, std::int64_t channel, const ShiftMixSite& site,
                    const ShiftMixSequence& seq, const Tile& rows)
      : d(tag), c(channel), channels(site.channels), sequence(seq), tile(rows) {
    weight = hn::LoadU(d, site.norm_weight + c);
    bias = hn::LoadU(d, site.norm_bias + c);
    for (int j = 0; j < K; ++j) conv[j] = hn::LoadU(d, site.conv + j * channels + c);
    if constexpr (kGated) {
      gate_x = hn::LoadU(d, site.gate_x + c);
      gate_s = hn::LoadU(d, site.gate_s + c);
      gate_b = hn::LoadU(d, site.gate_b + c);
    }
  }

  HWY_INLINE V Normal(std::int64_t t) const {
    return hn::LoadU(d, tile.a.data() + (t - tile.begin) * channels + c);
  }
  // a_t; tokens before the sequence come from the ring.
  HWY_INLINE V A(std::int64_t t) const {
    if (t >= 0) return hn::MulAdd(Normal(t), weight, bias);
    if constexpr (K > 1)
      if (t >= 1 - K) return hn::LoadU(d, sequence.ring + (K - 1 + t) * channels + c);
    return hn::Zero(d);
  }
  HWY_INLINE V Factor(std::int64_t t, int j, V x) const {
    return sequence.m == nullptr ? x : hn::Mul(x, hn::Set(d, sequence.m[t * K + j]));
  }
  // s_t from a_t, a_{t-1}, ….
  HWY_INLINE V Shifted(std::int64_t t, const V* a) const {
    V s = hn::Zero(d);
    for (int j = 0; j < K; ++j) s = hn::MulAdd(Factor(t, j, conv[j]), a[j], s);
    return s;
  }
  HWY_INLINE V Gate(V a, V s) const {
    if constexpr (kGated) return Sigmoid(d, hn::MulAdd(gate_x, a, hn::MulAdd(gate_s, s, gate_b)));
    return hn::Set(d, 1.0f);
  }
  // b_t, with s and the gate's value where they are wanted.
  HWY_INLINE V B(std::int64_t t, const V* a, V* s_out, V* g_out) const {
    if constexpr (K == 0) return a[0];
    const V s = Shifted(t, a), g = Gate(a[0], s);
    if (s_out != nullptr) *s_out = s;
    if (g_out != nullptr) *g_out = g;
    return kGated ? hn::MulAdd(g, s, a[0]) : hn::Add(a[0], s);
  }
};

template <int K, bool kGated>
struct Kernel {
  static constexpr int kRows = K > 0 ? K : 1;

  // The mixes of a token's b with that of the token before, to place `at` of each z.
  template <class D, class V = hn::VFromD<D>>
  static HWY_INLINE void Mix(D d, const ShiftMixSite& site, V before, V b, std::int64_t at,
                             std::int64_t c, float* const* z) {
    const V from = site.mix_before ? b : before, to = site.mix_before ? before : b;
    const V step = hn::Sub(to, from);
    for (int i = 0; i < site.mixes; ++i)
      hn::StoreU(hn::MulAdd(step, hn::LoadU(d, site.mix[i] + c), from), d, z[i] + at);
  }

  static void Forward(const ShiftMixSite& site, const ShiftMixSequence& sequence,
                      std::int64_t first, std::int64_t last, float* const* z) {
    Tile& tile = ThreadTile();
    NormalizeRows(site, sequence, first - K - 1, last, tile);
    // Rows in order are what the CPU reads ahead of best; along columns, taps stay in registers.
    if constexpr (K == 0) {
      for (std::int64_t t = first; t < last; ++t)
        ForEach(0, site.channels, [&](auto d, std::int64_t c) {
          const Column<K, kGated, decltype(d)> column(d, c, site, sequence, tile);
          const auto b = column.A(t);
          const auto before = t > 0 ? column.A(t - 1) : hn::LoadU(d, sequence.prev + c);
          Mix(d, site, before, b, t * site.channels + c, c, z);
        });
      return;
    }
    ForEach(0, site.channels, [&](auto d, std::int64_t c) {
      using V = hn::VFromD<decltype(d)>;
      const Column<K, kGated, decltype(d)> column(d, c, site, sequence, tile);
      V a[kRows];
      for (int j = 0; j < kRows; ++j) a[j] = column.A(first - 1 - j);
      V before =
          first > 0 ? column.B(first - 1, a, nullptr, nullptr) : hn::LoadU(d, sequence.prev + c);
      for (std::int64_t t = first; t < last; ++t) {
        for (int j = kRows - 1; j > 0; --j) a[j] = a[j - 1];
        a[0] = column.A(t);
        const V b = column.B(t, a, nullptr, nullptr);
        for (int i = 0; i < site.mixes; ++i) AskAhead((t + kRowsAhead) * site.channels + c, z[i]);
        Mix(d, site, before, b, t * site.channels + c, c, z);
        before = b;
      }
    });
  }

  static void State(const ShiftMixSite& site, const ShiftMixSequence& sequence, float* ring,
                    float* prev) {
    Tile& tile = ThreadTile();
    const std::int64_t T = sequence.tokens, C = site.channels;
    NormalizeRows(site, sequence, T - 1 - K, T, tile);
    ForEach(0, C, [&](auto d, std::int64_t c) {
      using V = hn::VFromD<decltype(d)>;
      const Column<K, kGated, decltype(d)> column(d, c, site, sequence, tile);
      V a[kRows];
      for (int j = 0; j < kRows; ++j) a[j] = column.A(T - 1 - j);
      hn::StoreU(column.B(T - 1, a, nullptr, nullptr), d, prev + c);
      for (int j = 0; j < K - 1; ++j) hn::StoreU(a[j], d, ring + (K - 2 - j) * C + c);
    });
  }

  static void Backward(const ShiftMixSite& site, const ShiftMixSequence& sequence,
                       std::int64_t first, std::int64_t last, const float* const* dz, float* dx,
                       float* grads, float* dm, const ShiftMixStateGrads& state) {
    const std::int64_t T = sequence.tokens, C = site.channels;
    // Tokens after the segment whose shifts reach back into it.
    const std::int64_t top = std::min(T, last + (K > 0 ? K - 1 : 0));
    Tile& tile = ThreadTile();
    NormalizeRows(site, sequence, first - K - 1, top, tile);
    tile.da.resize(static_cast<std::size_t>((last - first) * C));
    if (dm != nullptr)
      std::memset(dm + first * K, 0, static_cast<std::size_t>((last - first) * K) * sizeof(float));
    constexpr std::size_t kLanes = hn::MaxLanes(Full());
    // Sums over channels of dm, a vector each, until the last channel.
    thread_local std::vector<float> dm_lanes;
    if (dm != nullptr) dm_lanes.assign(static_cast<std::size_t>((last - first) * K) * kLanes, 0.0f);

    ForEach(0, C, [&](auto d, std::int64_t c) {
      using V = hn::VFromD<decltype(d)>;
      const Column<K, kGated, decltype(d)> column(d, c, site, sequence, tile);
      const V one = hn::Set(d, 1.0f);
      V mix[kShiftMixMixes];  // shares of the token itself
      for (int i = 0; i < site.mixes; ++i) {
        mix[i] = hn::LoadU(d, site.mix[i] + c);
        if (site.mix_before) mix[i] = hn::Sub(one, mix[i]);
      }
      V sum_weight = hn::Zero(d), sum_bias = sum_weight, sum_x = sum_weight, sum_s = sum_weight,
        sum_b = sum_weight;
      V sum_mix[kShiftMixMixes];
      std::fill_n(sum_mix, kShiftMixMixes, sum_weight);
      V sum_conv[kRows], ds[kRows], a[kRows];
      for (int j = 0; j < kRows; ++j) {
        sum_conv[j] = ds[j] = hn::Zero(d);
        a[j] = column.A(top - 1 - j);
      }
      V s = hn::Zero(d), g = one;
      V b = column.B(top - 1, a, &s, &g);
      V later[kShiftMixMixes];  // (1 - mix) dz of the next token
      for (int i = 0; i < site.mixes; ++i)
        later[i] = top < T ? hn::LoadU(d, dz[i] + top * C + c) : hn::Zero(d);

      for (std::int64_t t = top - 1; t >= first; --t) {
        // The token before, whose b the mixes of t used.
        V past[kRows];
        for (int j = 0; j + 1 < kRows; ++j) past[j] = a[j + 1];
        past[kRows - 1] = column.A(t - kRows);
        V past_s = hn::Zero(d), past_g = one;
        const V before =
            t > 0 ? column.B(t - 1, past, &past_s, &past_g) : hn::LoadU(d, sequence.prev + c);
        const V step = site.mix_before ? hn::Sub(before, b) : hn::Sub(b, before);
        const bool inside = t < last;
        V grad = t == T - 1 && state.prev_after != nullptr ? hn::LoadU(d, state.prev_after + c)
                                                           : hn::Zero(d);  // of b_t
        for (int i = 0; i < site.mixes; ++i) {
          AskAhead((t - kRowsAhead) * C + c, dz[i]);
          const V now = hn::LoadU(d, dz[i] + t * C + c);
          grad = hn::MulAdd(now, mix[i], hn::MulAdd(later[i], hn::Sub(one, mix[i]), grad));
          if (inside) sum_mix[i] = hn::MulAdd(now, step, sum_mix[i]);
          later[i] = now;
        }
        V da = grad;
        if constexpr (K > 0) {
          for (int j = K - 1; j > 0; --j) ds[j] = ds[j - 1];
          if constexpr (kGated) {
            const V dgate = hn::Mul(grad, hn::Mul(s, hn::Mul(g, hn::Sub(one, g))));
            ds[0] = hn::MulAdd(grad, g, hn::Mul(dgate, column.gate_s));
            da = hn::MulAdd(dgate, column.gate_x, da);
            if (inside) {
              sum_x = hn::MulAdd(dgate, a[0], sum_x);
              sum_s = hn::MulAdd(dgate, s, sum_s);
              sum_b = hn::Add(sum_b, dgate);
            }
          } else {
            ds[0] = grad;
          }
          for (int j = 0; j < K; ++j)
            if (t + j < T) da = hn::MulAdd(column.Factor(t + j, j, column.conv[j]), ds[j], da);
          if (K > 1 && state.ring_after != nullptr && t > T - K)
            da = hn::Add(da, hn::LoadU(d, state.ring_after + (t - T + K - 1) * C + c));
          if (inside) {
            float* lanes = dm == nullptr ? nullptr
                                         : dm_lanes.data() +
                                               static_cast<std::size_t>((t - first) * K) * kLanes;
            for (int j = 0; j < K; ++j) {
              const V product = hn::Mul(ds[0], a[j]);
              sum_conv[j] = hn::Add(sum_conv[j], column.Factor(t, j, product));
              if (lanes != nullptr) {
                float* at = lanes + static_cast<std::size_t>(j) * kLanes;
                hn::StoreU(hn::MulAdd(product, column.conv[j], hn::LoadU(d, at)), d, at);
              }
            }
          }
        }
        if (inside) {
          sum_weight = hn::MulAdd(da, column.Normal(t), sum_weight);
          sum_bias = hn::Add(sum_bias, da);
          hn::StoreU(hn::Mul(da, column.weight), d, tile.da.data() + (t - first) * C + c);
        }
        for (int j = 0; j < kRows; ++j) a[j] = past[j];
        b = before, s = past_s, g = past_g;
      }
      if (first == 0 && state.prev_before != nullptr) {
        V grad = hn::Zero(d);  // of the b before token 0
        for (int i = 0; i < site.mixes; ++i)
          grad = hn::MulAdd(later[i], hn::Sub(one, mix[i]), grad);
        hn::StoreU(grad, d, state.prev_before + c);
      }
      if (K > 1 && first == 0 && state.ring_before != nullptr)
        for (std::int64_t t = -1; t > -K; --t) {
          for (int j = K - 1; j > 0; --j) ds[j] = ds[j - 1];
          ds[0] = hn::Zero(d);
          V da = state.ring_after != nullptr && t > T - K
                     ? hn::LoadU(d, state.ring_after + (t - T + K - 1) * C + c)
                     : hn::Zero(d);
          for (int j = 1; j < K; ++j)
            if (t + j >= 0 && t + j < T)
              da = hn::MulAdd(column.Factor(t + j, j, column.conv[j]), ds[j], da);
          hn::StoreU(da, d, state.ring_before + (K - 1 + t) * C + c);
        }
      const V rows[] = {sum_weight, sum_bias, sum_x, sum_s, sum_b};
      for (int i = 0; i < 5; ++i) hn::StoreU(rows[i], d, grads + i * C + c);
      for (int i = 0; i < kShiftMixMixes; ++i) hn::StoreU(sum_mix[i], d, grads + (5 + i) * C + c);
      for (int j = 0; j < K; ++j)
        hn::StoreU(sum_conv[j], d, grads + (kShiftMixGradRows + j) * C + c);
    });

    if (dm != nullptr)
      for (std::int64_t i = 0; i < (last - first) * K; ++i) {
        const float* lanes = dm_lanes.data() + static_cast<std::size_t>(i) * kLanes;
        dm[first * K + i] = hn::GetLane(hn::SumOfLanes(Full(), hn::LoadU(Full(), lanes)));
      }
    for (std::int64_t t = first; t < last; ++t)
      AddNormGradient(tile.a.data() + (t - tile.begin) * C, tile.da.data() + (t - first) * C,
                      tile.scale[static_cast<std::size_t>(t - tile.begin)], C, dx + t * C);
  }
};

// Calls run with the kernel for a site's number of taps and kind of gate.
template <class Run>
void WithKernel(const ShiftMixSite& site, const Run& run) {
  const auto pick = [&]<int K>() {
    if constexpr (K > 0)
      if (site.gate_b != nullptr) return run(Kernel<K, true>());
    return run(Kernel<K, false>());
  };
  switch (site.taps) {
    case 0:
      return pick.template operator()<0>();
    case 1:
      return pick.template operator()<1>();
    case 2:
      return pick.template operator()<2>();
    case 3:
      return pick.template operator()<3>();
    case 4:
      return pick.template operator()<4>();
    case 5:
      return pick.template operator()<5>();
    case 6:
      return pick.template operator()<6>();
    case 7:
      return pick.template operator()<7>();
    default:
      return pick.template operator()<8>();
  }
}

void ForwardSite(const ShiftMixSite& site, const ShiftMixSequence& sequence, std::int64_t first,
                 std::int64_t last, float* const* z) {
  WithKernel(site, [&](auto kernel) { kernel.Forward(site, sequence, first, last, z); });
}
void StateOfSite(const ShiftMixSite& site, const ShiftMixSequence& sequence, float* ring,
                 float* prev) {
  WithKernel(site, [&](auto kernel) { kernel.State(site, sequence, ring, prev); });
}
void BackwardSite(const ShiftMixSite& site, const ShiftMixSequence& sequence, std::int64_t first,
                  std::int64_t last, const float* const* dz, float* dx, float* grads, float* dm,
                  const ShiftMixStateGrads& state) {
  WithKernel(site, [&](auto kernel) {
    kernel.Backward(site, sequence, first, last, dz, dx, grads, dm, state);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace rwkvx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rwkvx {

HWY_EXPORT(ForwardSite);
HWY_EXPORT(StateOfSite);
HWY_EXPORT(BackwardSite);

std::int64_t shift_mix_segment(std::int64_t channels) {
  constexpr std::int64_t kTileFloats = 1 << 15;  // two such tiles fit a core's second-level cache
  return std::clamp<std::int64_t>(kTileFloats / channels / 16 * 16, 32, 256);
}
void shift_mix_forward(const ShiftMixSite& site, const ShiftMixSequence& sequence,
                       std::int64_t first, std::int64_t last, float* const* z) {
  HWY_DYNAMIC_DISPATCH(ForwardSite)(site, sequence, first, last, z);
}
void shift_mix_state(const ShiftMixSite& site, const ShiftMixSequence& sequence, float* ring,
                     float* prev) {
  HWY_DYNAMIC_DISPATCH(StateOfSite)(site, sequence, ring, prev);
}
void shift_mix_backward(const ShiftMixSite& site, const ShiftMixSequence& sequence,
                        std::int64_t first, std::int64_t last, const float* const* dz, float* dx,
                        float* grads, float* dm, const ShiftMixStateGrads& state) {
  HWY_DYNAMIC_DISPATCH(BackwardSite)(site, sequence, first, last, dz, dx, grads, dm, state);
}

}  // namespace rwkvx
#endif
