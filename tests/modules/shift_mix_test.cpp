#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "cores/shift/gate_forms.h"
#include "cores/shift/mix_kernel.h"
#include "cores/shift/modules/conv_shift.h"
#include "cores/shift/modules/parameters.h"
#include "cores/shift/modules/token_shift.h"
#include "support/tensors.h"

namespace rwkvx {
namespace {

using test::expect_near_in_norm;

struct Case {
  int64_t T, C;
  int taps, mixes;
  bool gated, positions;
  bool before = false;  // mixes are shares of the token before
};

struct Tensors {
  at::Tensor x, norm_weight, norm_bias, conv, pos_u, gate_x, gate_s, gate_b, ring, prev, phi;
  std::vector<at::Tensor> mix, dz;
};

Tensors make(const Case& one) {
  at::manual_seed(one.T * 31 + one.C);
  Tensors in;
  const int64_t C = one.C, K = one.taps;
  in.x = at::randn({1, one.T, C}) * 2 + 0.3;
  in.norm_weight = at::rand({C}) + 0.5;
  in.norm_bias = at::randn({C}) * 0.2;
  in.conv = at::randn({K, C}) * 0.3;
  in.pos_u = at::randn({K, 4}) * 0.3;
  in.gate_x = at::randn({C});
  in.gate_s = at::randn({C});
  in.gate_b = at::randn({C});
  in.ring = at::randn({1, std::max<int64_t>(K - 1, 0), C});
  in.prev = at::randn({1, C});
  in.phi = position_features(Position::kExp, at::full({1}, 3, at::kLong), one.T).to(at::kFloat);
  for (int i = 0; i < one.mixes; ++i) {
    in.mix.push_back(at::rand({C}));
    in.dz.push_back(at::randn({1, one.T, C}));
  }
  return in;
}

// Outputs, state and gradients from LibTorch's operators in float64.
struct Wanted {
  std::vector<at::Tensor> z, grads;  // grads: x, norm, gate, mix, conv, pos_u
  at::Tensor ring, prev;
};

Wanted reference(const Case& one, const Tensors& in) {
  const auto leaf = [](const at::Tensor& t) { return t.to(at::kDouble).clone().requires_grad_(); };
  const auto x = leaf(in.x), weight = leaf(in.norm_weight), bias = leaf(in.norm_bias);
  std::vector<at::Tensor> leaves{x, weight, bias};
  ShiftParameters learned;
  learned.form = &gate_form(one.gated ? Gate::kDiag : Gate::kOne);
  auto ring = in.ring.to(at::kDouble);
  auto a = at::layer_norm(x, {one.C}, weight, bias, 1e-5);
  if (one.taps > 0) {
    learned.conv = leaf(in.conv);
    if (one.positions) learned.pos_u = leaf(in.pos_u);
    if (one.gated) {
      learned.gate = {leaf(in.gate_x), leaf(in.gate_s), leaf(in.gate_b)};
      for (const auto& gate : learned.gate) leaves.push_back(gate);
    }
    a = conv_shift(a, learned, in.phi.to(at::kDouble), ring);
  }
  Wanted wanted;
  const auto before = token_shift(a, in.prev.to(at::kDouble));
  at::Tensor loss = at::zeros({}, at::kDouble);
  for (int i = 0; i < one.mixes; ++i) {
    const auto mix = leaf(in.mix[static_cast<std::size_t>(i)]);
    leaves.push_back(mix);
    wanted.z.push_back(one.before ? a + (before - a) * mix : before + (a - before) * mix);
    loss = loss + (wanted.z.back() * in.dz[static_cast<std::size_t>(i)].to(at::kDouble)).sum();
  }
  if (learned.conv.defined()) leaves.push_back(learned.conv);
  if (learned.pos_u.defined()) leaves.push_back(learned.pos_u);
  wanted.grads = torch::autograd::grad({loss}, leaves);
  wanted.ring = ring;
  wanted.prev = a.select(1, -1).detach();
  return wanted;
}

void check(const Case& one) {
  SCOPED_TRACE("T " + std::to_string(one.T) + " C " + std::to_string(one.C) + " K " +
               std::to_string(one.taps) + (one.gated ? " gated" : "") +
               (one.positions ? " positions" : ""));
  const auto in = make(one);
  const auto wanted = reference(one, in);
  const int64_t T = one.T, C = one.C, K = one.taps;
  ShiftMixSite site;
  site.channels = C;
  site.taps = one.taps;
  site.mixes = one.mixes;
  site.mix_before = one.before;
  site.norm_weight = in.norm_weight.const_data_ptr<float>();
  site.norm_bias = in.norm_bias.const_data_ptr<float>();
  if (K > 0) site.conv = in.conv.const_data_ptr<float>();
  if (K > 0 && one.gated) {
    site.gate_x = in.gate_x.const_data_ptr<float>();
    site.gate_s = in.gate_s.const_data_ptr<float>();
    site.gate_b = in.gate_b.const_data_ptr<float>();
  }
  std::vector<at::Tensor> z;
  float* z_rows[kShiftMixMixes] = {};
  const float* dz_rows[kShiftMixMixes] = {};
  for (int i = 0; i < one.mixes; ++i) {
    site.mix[i] = in.mix[static_cast<std::size_t>(i)].const_data_ptr<float>();
    z.push_back(at::empty({1, T, C}));
    z_rows[i] = z.back().mutable_data_ptr<float>();
    dz_rows[i] = in.dz[static_cast<std::size_t>(i)].const_data_ptr<float>();
  }
  at::Tensor m;
  if (K > 0 && one.positions) m = (1 + at::matmul(in.phi[0], in.pos_u.t())).contiguous();  // (T, K)
  const ShiftMixSequence sequence{T, in.x.const_data_ptr<float>(),
                                  m.defined() ? m.const_data_ptr<float>() : nullptr,
                                  in.ring.const_data_ptr<float>(), in.prev.const_data_ptr<float>()};
  // Segments of an awkward length.
  constexpr int64_t kSegment = 13;
  const int64_t rows = shift_mix_grad_rows(site);
  auto dx = at::zeros({1, T, C}), grads = at::zeros({rows, C});
  auto dm = at::zeros({T, std::max<int64_t>(K, 1)});
  for (int64_t t = 0; t < T; t += kSegment) {
    const int64_t end = std::min(T, t + kSegment);
    shift_mix_forward(site, sequence, t, end, z_rows);
    auto part = at::empty({rows, C});
    shift_mix_backward(site, sequence, t, end, dz_rows, dx.mutable_data_ptr<float>(),
                       part.mutable_data_ptr<float>(),
                       m.defined() ? dm.mutable_data_ptr<float>() : nullptr);
    grads += part;
  }
  for (int i = 0; i < one.mixes; ++i)
    expect_near_in_norm(z[static_cast<std::size_t>(i)], wanted.z[static_cast<std::size_t>(i)], 3e-6,
                        "z");
  std::vector<at::Tensor> found{dx, grads[0], grads[1]};
  if (K > 0 && one.gated)
    for (int row : {2, 3, 4}) found.push_back(grads[row]);
  for (int i = 0; i < one.mixes; ++i) found.push_back(grads[5 + i]);
  if (K > 0) found.push_back(grads.slice(0, kShiftMixGradRows));
  if (m.defined()) found.push_back(at::matmul(dm.t(), in.phi[0]));
  ASSERT_EQ(found.size(), wanted.grads.size());
  for (std::size_t i = 0; i < found.size(); ++i)
    expect_near_in_norm(found[i], wanted.grads[i], 1e-5, "gradient " + std::to_string(i));

  auto ring = in.ring.clone(), prev = in.prev.clone();
  shift_mix_state(site, sequence, ring.mutable_data_ptr<float>(), prev.mutable_data_ptr<float>());
  expect_near_in_norm(prev, wanted.prev, 3e-6, "prev");
  if (K > 1) expect_near_in_norm(ring, wanted.ring, 3e-6, "ring");
}

TEST(ShiftMix, EqualsTheFloat64ReferenceInValuesAndGradients) {
  for (const int64_t T : {1, 2, 3, 33, 70})
    for (const int taps : {0, 1, 2, 4, 7})
      for (const bool gated : {true, false}) check({T, 37, taps, 3, gated, taps != 2});
  check({33, 64, 4, 2, true, true});
  check({33, 5, 4, 2, true, true});
  for (const int mixes : {1, 6}) check({33, 40, 4, mixes, true, true, /*before=*/true});
}

TEST(ShiftMixSlow, EqualsTheFloat64ReferenceOnLongSequences) {
  for (const int64_t T : {500, 4097}) check({T, 48, 4, 3, true, true});
}

}  // namespace
}  // namespace rwkvx
