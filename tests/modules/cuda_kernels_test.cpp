// The bodies of the CUDA kernels, run on the processor thread by thread, against float64
// references; and the kernels themselves where there is a GPU that the build has them for.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <optional>

#include "cores/cuda/facts.h"
#include "cores/rwkv4/cuda/wkv_function.h"
#include "cores/rwkv4/modules/wkv.h"
#include "cores/rwkv7/cuda/wkv_body.h"
#include "cores/rwkv7/cuda/wkv_function.h"
#include "cores/rwkv7/modules/wkv.h"
#include "cores/shift/cuda/shift_mix_function.h"
#include "cores/shift/gate_forms.h"
#include "cores/shift/modules/parameters.h"
#include "cores/shift/modules/shift_mix.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"
#include "rwkvx/modules/device.h"
#include "rwkvx/ops/cuda/call.h"
#include "rwkvx/ops/cuda/host_device.h"
#include "rwkvx/ops/precision.h"
#include "support/tensors.h"
#include "support/wkv7_inputs.h"

namespace rwkvx {
namespace {

using test::expect_near_in_norm;
using test::Tensors;

Tensors leaves_of(const Tensors& values, const at::TensorOptions& options) {
  Tensors leaves;
  for (const auto& one : values)
    leaves.push_back(one.detach().to(options).clone().requires_grad_());
  return leaves;
}

const at::TensorOptions kProcessor(at::kFloat);
// float32 on the first GPU; nothing where there is none to test.
std::optional<at::TensorOptions> first_gpu() {
  const auto device = find_device("auto", "test");
  if (device.is_cpu()) return {};
  return kProcessor.device(device);
}

// ---- wkv ---------------------------------------------------------------------------------------

// w, u, k, v, state, r; keys up to +-range, decays from slow to very fast, a state of earlier
// tokens.
Tensors wkv_inputs(int64_t B, int64_t T, int64_t C, double range) {
  auto state = wkv_start(B, C, at::kFloat);
  state.select(1, 0).copy_(at::randn({B, C}));
  state.select(1, 1).copy_(at::rand({B, C}) + 0.1);
  state.select(1, 2).copy_(at::randn({B, C}) * range / 2);
  return {-at::exp(at::linspace(-6, 3, C)),
          at::randn({C}) * 0.7,
          (at::rand({B, T, C}) * 2 - 1) * range,
          at::randn({B, T, C}),
          state,
          at::randn({B, T, C})};
}

template <class Wkv>
Tensors wkv_outcome(const Wkv& wkv, const Tensors& in, const at::Tensor& grad_y, bool gated,
                    const at::TensorOptions& options) {
  auto leaves = leaves_of(in, options);
  if (!gated) leaves.pop_back();
  auto [y, state] =
      wkv(leaves[0], leaves[1], leaves[2], leaves[3], leaves[4], gated ? leaves[5] : at::Tensor());
  // The state is used as a following call uses it.
  const auto next = in[2].select(1, 0).to(options), o = state.select(1, 2);
  const auto m = at::maximum(o, next);
  const auto past = at::exp(o - m), now = at::exp(next - m);
  const auto later = (past * state.select(1, 0) + now) / (past * state.select(1, 1) + now);
  Tensors all{y.detach(), (state.select(1, 0) / state.select(1, 1)).detach()};
  for (const auto& grad :
       torch::autograd::grad({(y * grad_y.to(options)).sum() + later.sum()}, leaves))
    all.push_back(grad);
  for (auto& one : all) one = one.cpu();
  return all;
}

void check_wkv(int64_t T, double range, bool gated, int64_t B = 2, int64_t C = 37,
               const at::TensorOptions& options = kProcessor) {
  at::manual_seed(7);
  const auto in = wkv_inputs(B, T, C, range);
  const auto grad_y = at::randn({B, T, C});
  const auto found = wkv_outcome(cuda::wkv, in, grad_y, gated, options);
  const auto wanted = wkv_outcome(wkv_reference, in, grad_y, gated, at::kDouble);
  const char* names[] = {"y", "p/q", "w", "u", "k", "v", "state", "r"};
  for (std::size_t i = 0; i < found.size(); ++i)
    expect_near_in_norm(found[i], wanted[i], 1e-5,
                        std::string(names[i]) + " at T = " + std::to_string(T) + ", keys up to " +
                            std::to_string(range));
}

TEST(CudaWkv, BodiesEqualTheFloat64ReferenceInValuesAndGradients) {
  for (const int64_t T : {1, 2, 31, 32, 33, 65})
    for (const double range : {1.0, 8.0, 90.0})
      for (const bool gated : {false, true}) check_wkv(T, range, gated);
}

TEST(CudaWkvSlow, BodiesEqualTheFloat64ReferenceOnLongSequences) {
  for (const int64_t T : {500, 4097})
    for (const double range : {3.0, 90.0}) check_wkv(T, range, /*gated=*/true, 1, 11);
}

TEST(CudaWkv, KernelsEqualTheFloat64ReferenceOnTheGpu) {
  const auto gpu = first_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU that this build has kernels for";
  for (const int64_t T : {1, 2, 33, 500})
    for (const double range : {8.0, 90.0}) check_wkv(T, range, /*gated=*/true, 2, 37, *gpu);
}

TEST(CudaWkv, FromTheStartStateEqualsTheFloat64Reference) {
  at::manual_seed(3);
  auto in = wkv_inputs(1, 40, 5, 90.0);
  in[4] = wkv_start(1, 5, at::kFloat);
  const auto y = cuda::wkv(in[0], in[1], in[2], in[3], in[4], in[5]).first;
  for (auto& one : in) one = one.to(at::kDouble);
  expect_near_in_norm(y, wkv_reference(in[0], in[1], in[2], in[3], in[4], in[5]).first, 1e-6);
}

TEST(CudaWkv, TakesBfloat16AndKeepsTheStateInFloat32) {
  at::manual_seed(5);
  auto in = wkv_inputs(2, 70, 9, 4.0);
  for (const std::size_t i : {2, 3, 5}) in[i] = in[i].to(at::kBFloat16);
  Tensors leaves;
  for (const auto& one : in) leaves.push_back(one.clone().requires_grad_());
  const auto grad_y = at::randn({2, 70, 9}).to(at::kBFloat16);
  const auto [y, state] =
      cuda::wkv(leaves[0], leaves[1], leaves[2], leaves[3], leaves[4], leaves[5]);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(state.scalar_type(), at::kFloat);
  const auto grads = torch::autograd::grad({(y * grad_y).sum()}, leaves);
  const auto exact = leaves_of(in, at::kDouble);
  const auto [wanted_y, wanted_state] =
      wkv_reference(exact[0], exact[1], exact[2], exact[3], exact[4], exact[5]);
  const auto wanted = torch::autograd::grad({(wanted_y * grad_y.to(at::kDouble)).sum()}, exact);
  expect_near_in_norm(y, wanted_y, 3e-3, "y");
  expect_near_in_norm(state.select(1, 0) / state.select(1, 1),
                      wanted_state.select(1, 0) / wanted_state.select(1, 1), 1e-6, "p/q");
  for (std::size_t i = 0; i < grads.size(); ++i)
    expect_near_in_norm(grads[i], wanted[i], i == 0 || i == 1 || i == 4 ? 1e-5 : 3e-3,
                        "gradient " + std::to_string(i));
}

TEST(CudaWkv, Bfloat16RoundsAsLibTorchDoes) {
  at::manual_seed(1);
  const auto x = at::cat({at::randn({1000}) * 100, at::tensor({0.f, -0.f, 3.4e38f, 1e-40f})});
  auto found = at::empty_like(x, at::kBFloat16);
  auto* bits = static_cast<cuda::Bf16*>(found.mutable_data_ptr());
  for (int64_t i = 0; i < x.numel(); ++i) cuda::store(bits, i, x[i].item<float>());
  EXPECT_TRUE(at::equal(found, x.to(at::kBFloat16)));
  for (int64_t i = 0; i < x.numel(); ++i)
    EXPECT_EQ(cuda::load(bits, i), found[i].to(at::kFloat).item<float>());
}

// ---- wkv7 --------------------------------------------------------------------------------------

void check_wkv7(int64_t T, int64_t N, int64_t B = 2, int64_t H = 3,
                const at::TensorOptions& options = kProcessor, double decay = 0) {
  at::manual_seed(7);
  auto in = test::wkv7_inputs(B, T, H, N);
  if (decay != 0)
    in[1] = at::exp(-0.60653065971263342 * at::sigmoid(at::randn({B, T, H, N}) + decay));
  const auto found = test::wkv7_outcome(cuda::wkv7, in, options);
  const auto wanted = test::wkv7_outcome(wkv7_reference, in, at::kDouble);
  for (std::size_t i = 0; i < found.size(); ++i)
    expect_near_in_norm(found[i], wanted[i], 1e-5,
                        std::string(test::wkv7_names[i]) + " at T = " + std::to_string(T) +
                            ", N = " + std::to_string(N));
}

TEST(CudaWkv7, BodiesEqualTheFloat64ReferenceInValuesAndGradients) {
  for (const int64_t T : {1, 7, 8, 9, 15, 16, 17, 24, 25, 33}) check_wkv7(T, 16);
  for (const int64_t N : {32, 64, 128})
    for (const int64_t T : {1, 9, 25}) check_wkv7(T, N, 1, 2);
}

TEST(CudaWkv7, BodiesUndoStepsPreciselyWhereTheDecayIsAtItsLeast) {
  for (const double decay : {-9.0, 9.0}) check_wkv7(67, 64, 1, 1, kProcessor, decay);
}

TEST(CudaWkv7Slow, BodiesEqualTheFloat64ReferenceOnLongSequences) { check_wkv7(1000, 32, 1, 1); }

TEST(CudaWkv7, KernelsEqualTheFloat64ReferenceOnTheGpu) {
  const auto gpu = first_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU that this build has kernels for";
  for (const int64_t N : {16, 32, 64, 128})
    for (const int64_t T : {1, 8, 16, 33, 500}) check_wkv7(T, N, 2, 3, *gpu);
  check_wkv7(200, 64, 2, 3, *gpu, /*decay=*/9);
}

TEST(CudaWkv7, OtherSizesGoThroughTheReference) { check_wkv7(9, 8); }

TEST(CudaWkv7, EqualsTheKernelOfTheProcessor) {
  at::manual_seed(4);
  const auto in = test::wkv7_inputs(1, 70, 2, 64);
  const auto gpu = test::wkv7_outcome(cuda::wkv7, in, at::kFloat);
  const auto cpu = test::wkv7_outcome(wkv7, in, at::kFloat);
  for (std::size_t i = 0; i < gpu.size(); ++i)
    expect_near_in_norm(gpu[i], cpu[i], 1e-5, test::wkv7_names[i]);
}

TEST(CudaWkv7, TakesBfloat16AndKeepsTheDecayAndTheStateInFloat32) {
  at::manual_seed(5);
  auto in = test::wkv7_inputs(2, 40, 2, 32);
  for (const std::size_t i : {0, 2, 3, 4, 5, 7}) in[i] = in[i].to(at::kBFloat16);
  Tensors leaves;
  for (std::size_t i = 0; i < 7; ++i) leaves.push_back(in[i].clone().requires_grad_());
  const auto [y, state] =
      cuda::wkv7(leaves[0], leaves[1], leaves[2], leaves[3], leaves[4], leaves[5], leaves[6]);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(state.scalar_type(), at::kFloat);
  const auto grads = torch::autograd::grad({(y * in[7]).sum() + (state * in[8]).sum()}, leaves);
  const auto wanted = test::wkv7_outcome(wkv7_reference, in, at::kDouble);
  expect_near_in_norm(y, wanted[0], 3e-3, "y");
  expect_near_in_norm(state, wanted[1], 1e-6, "state");
  for (std::size_t i = 0; i < grads.size(); ++i) {
    EXPECT_EQ(grads[i].scalar_type(), leaves[i].scalar_type()) << i;
    expect_near_in_norm(grads[i], wanted[i + 2], i == 1 || i == 6 ? 1e-5 : 3e-3,
                        test::wkv7_names[i + 2]);
  }
}

TEST(CudaWkv7, SplittingTheSequenceChangesNoBit) {
  at::manual_seed(6);
  const auto in = test::wkv7_inputs(1, 50, 1, 16);
  const auto whole = cuda::wkv7(in[0], in[1], in[2], in[3], in[4], in[5], in[6]);
  for (const int64_t chunk : {1, 3, 8, 17}) {
    auto state = in[6];
    Tensors parts;
    for (int64_t t = 0; t < 50; t += chunk) {
      const auto cut = [&](int i) { return in[i].slice(1, t, t + chunk); };
      auto [y, next] = cuda::wkv7(cut(0), cut(1), cut(2), cut(3), cut(4), cut(5), state);
      parts.push_back(y);
      state = next;
    }
    EXPECT_TRUE(at::equal(at::cat(parts, 1), whole.first)) << chunk;
    EXPECT_TRUE(at::equal(state, whole.second)) << chunk;
  }
}

TEST(CudaWkv7, IsTakenByTheOperatorUnderAnEmulation) {
  at::manual_seed(6);
  const auto in = test::wkv7_inputs(1, 20, 1, 16);
  const auto direct = cuda::wkv7(in[0], in[1], in[2], in[3], in[4], in[5], in[6]).first;
  const cuda::Emulation emulation;
  EXPECT_TRUE(at::equal(wkv7(in[0], in[1], in[2], in[3], in[4], in[5], in[6]).first, direct));
}

// ---- shift_mix ---------------------------------------------------------------------------------

struct Site {
  std::string gate = "diag";  // diag, one, scalar, group, lowrank
  std::string pos = "exp";    // exp, sin, none
  int64_t taps = 4;           // -1: no shift; 0: gate_only
  int mixes = 3;
  int64_t T = 33, C = 12, B = 2;
  bool same_position = true;
};

std::string text_of(const Site& s) {
  return s.gate + " " + s.pos + " K " + std::to_string(s.taps) + " T " + std::to_string(s.T) +
         " C " + std::to_string(s.C);
}

struct SiteInputs {
  Tensors values;  // a, mixes, then what the site has, in the order of `use`
  at::Tensor phi, ring, prev;
};

SiteInputs make(const Site& s) {
  at::manual_seed(s.T * 31 + s.C + s.taps);
  const int64_t C = s.C, F = s.pos == "sin" ? 8 : 4, G = s.gate == "group" ? 4 : 1;
  SiteInputs in;
  auto& values = in.values;
  values.push_back(at::randn({s.B, s.T, C}));
  for (int i = 0; i < s.mixes; ++i) values.push_back(at::rand({1, 1, C}));
  if (s.taps > 0) values.push_back(at::randn({s.taps, C}) * 0.3);
  if (s.taps > 0 && s.pos != "none") values.push_back(at::randn({s.taps, F}) * 0.3);
  if (s.gate == "diag")
    for (int i = 0; i < 3; ++i) values.push_back(at::randn({C}));
  if (s.gate == "scalar" || s.gate == "group") {
    values.push_back(at::randn({G, C}) * 0.3);
    values.push_back(at::randn({G}));
  }
  if (s.gate == "lowrank") {
    values.push_back(at::randn({3, C}) * 0.3);
    values.push_back(at::randn({C, 3}) * 0.3);
    values.push_back(at::randn({C}));
  }
  if (s.taps > 0 && s.pos != "none")
    in.phi = position_features(
        read_enum<Position>(s.pos, "pos"),
        s.same_position ? at::full({s.B}, 3, at::kLong) : at::arange(s.B, at::kLong) * 5, s.T);
  if (s.taps >= 0) in.ring = at::randn({s.B, s.taps == 0 ? 1 : s.taps - 1, C});
  in.prev = at::randn({s.B, C});
  return in;
}

// The outputs, the state and the gradients of all values.
template <class ShiftMix>
Tensors outcome(const ShiftMix& shift_mix, const Site& s, const SiteInputs& in,
                const at::TensorOptions& options) {
  const auto leaves = leaves_of(in.values, options);
  std::size_t next = 0;
  const auto use = [&] { return leaves[next++]; };
  const auto a = use();
  Tensors mixes;
  for (int i = 0; i < s.mixes; ++i) mixes.push_back(use());
  ShiftParameters learned;
  if (s.taps >= 0) learned.form = &gate_form(read_enum<Gate>(s.gate, "gate"));
  if (s.taps > 0) learned.conv = use();
  if (s.taps > 0 && s.pos != "none") learned.pos_u = use();
  while (next < leaves.size()) learned.gate.push_back(use());
  auto ring = in.ring.defined() ? in.ring.to(options) : at::Tensor();
  auto prev = in.prev.to(options);
  const auto phi = in.phi.defined() ? in.phi.to(options) : at::Tensor();
  const auto z = shift_mix(a, learned, phi, mixes, ring, prev);
  at::manual_seed(9);
  auto loss = at::zeros({}, options);
  for (const auto& one : z) loss = loss + (one * at::randn({s.B, s.T, s.C}).to(options)).sum();
  Tensors all(z.begin(), z.end());
  all.push_back(prev);
  if (ring.defined() && ring.numel() > 0) all.push_back(ring);
  Tensors wanted;
  for (const auto& leaf : leaves)  // without a shift the gate's parameters have no part in it
    if (s.taps >= 0 || wanted.size() <= static_cast<std::size_t>(s.mixes)) wanted.push_back(leaf);
  for (const auto& grad : torch::autograd::grad({loss}, wanted)) all.push_back(grad);
  for (auto& one : all) one = one.cpu();
  return all;
}

void check(const Site& s, const at::TensorOptions& options = kProcessor) {
  SCOPED_TRACE(text_of(s));
  const auto in = make(s);
  const auto found = outcome(cuda::shift_mix, s, in, options);
  const auto wanted = outcome(shift_mix, s, in, at::kDouble);
  ASSERT_EQ(found.size(), wanted.size());
  for (std::size_t i = 0; i < found.size(); ++i)
    expect_near_in_norm(found[i], wanted[i], 1e-5, "tensor " + std::to_string(i), 1e-6);
}

TEST(CudaShiftMix, BodiesEqualTheFloat64ReferenceForEveryVariant) {
  for (const char* gate : {"diag", "one", "scalar", "group", "lowrank"})
    for (const char* pos : {"exp", "sin", "none"})
      for (const int64_t taps : {1, 2, 4, 64}) check({.gate = gate, .pos = pos, .taps = taps});
  for (const char* gate : {"diag", "scalar", "group", "lowrank"})  // gate_only
    check({.gate = gate, .pos = "none", .taps = 0});
  check({.gate = "one", .pos = "none", .taps = -1});
  for (const int mixes : {1, 2, 6})
    check({.gate = "one", .pos = "none", .taps = -1, .mixes = mixes});
}

TEST(CudaShiftMix, BodiesEqualTheFloat64ReferenceAtAwkwardSizes) {
  for (const int64_t T : {1, 2, 31, 32, 33, 65})
    for (const int64_t C : {4, 132})
      for (const bool same : {true, false})
        check({.taps = 5, .mixes = 2, .T = T, .C = C, .same_position = same});
}

TEST(CudaShiftMixSlow, BodiesEqualTheFloat64ReferenceOnLongSequences) {
  for (const int64_t T : {500, 4097})
    for (const char* gate : {"diag", "one", "scalar", "group", "lowrank"})
      for (const char* pos : {"exp", "sin"}) check({.gate = gate, .pos = pos, .T = T, .C = 40});
}

TEST(CudaShiftMix, KernelsEqualTheFloat64ReferenceOnTheGpu) {
  const auto gpu = first_gpu();
  if (!gpu) GTEST_SKIP() << "no GPU that this build has kernels for";
  for (const char* gate : {"diag", "one", "scalar", "group", "lowrank"})
    for (const int64_t taps : {1, 4, 64}) check({.gate = gate, .taps = taps, .T = 65}, *gpu);
  check({.T = 500, .C = 132}, *gpu);
  check({.gate = "one", .pos = "none", .taps = -1}, *gpu);
}

TEST(CudaShiftMix, SplittingTheSequenceDoesNotChangeTheOutput) {
  const Site site{.T = 50, .B = 1};
  const auto in = make(site);
  const auto& x = in.values;
  const ShiftParameters learned{x[4], x[5], &gate_form(Gate::kDiag), {x[6], x[7], x[8]}};
  const Tensors mixes{x[1], x[2], x[3]};
  const auto phi = in.phi.to(at::kFloat);
  auto ring = in.ring, prev = in.prev;
  const auto whole = cuda::shift_mix(x[0], learned, phi, mixes, ring, prev);
  for (const int64_t chunk : {1, 2, 3, 17, 49}) {
    auto part_ring = in.ring, part_prev = in.prev;
    Tensors parts;
    for (int64_t t = 0; t < 50; t += chunk)
      parts.push_back(cuda::shift_mix(x[0].slice(1, t, t + chunk), learned,
                                      phi.slice(1, t, t + chunk), mixes, part_ring, part_prev)[1]);
    expect_near_in_norm(at::cat(parts, 1), whole[1], 1e-6, "chunks of " + std::to_string(chunk));
    EXPECT_TRUE(at::equal(part_ring, ring));
    expect_near_in_norm(part_prev, prev, 1e-6, "prev");
  }
}

TEST(CudaShiftMix, GivesWhatLinearLayersWantUnderMixedPrecision) {
  const Site site;
  const auto in = make(site);
  const auto exact = outcome(cuda::shift_mix, site, in, at::kFloat);
  const MixedPrecision mixed(at::kCPU, /*everywhere=*/true);
  const auto rounded = outcome(cuda::shift_mix, site, in, at::kFloat);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    EXPECT_EQ(rounded[i].scalar_type(), i < 3 ? at::kBFloat16 : at::kFloat) << i;
    expect_near_in_norm(rounded[i], exact[i], 5e-3, "tensor " + std::to_string(i));
  }
}

TEST(CudaDevice, PrecisionIsTheGpusUnlessASettingSaysOtherwise) {
  const c10::Device cpu(at::kCPU), gpu(at::kCUDA, 0);
  EXPECT_FALSE(uses_bfloat16("auto", cpu, "p"));
  EXPECT_FALSE(uses_bfloat16("f32", cpu, "p"));
  EXPECT_TRUE(uses_bfloat16("auto", gpu, "p"));
  EXPECT_TRUE(uses_bfloat16("bf16", gpu, "p"));
  EXPECT_FALSE(uses_bfloat16("f32", gpu, "p"));
  EXPECT_THROW(uses_bfloat16("bf16", cpu, "train.precision"), ConfigError);
  EXPECT_EQ(peak_device_memory_bytes(cpu), 0);
}

TEST(CudaDevice, WarnsWhereBfloat16IsEmulated) {
  for (const int old : {70, 75}) {
    const auto text = cuda::capability_warning("cuda:1", old, true);
    EXPECT_NE(text.find("cuda:1"), std::string::npos) << text;
    EXPECT_NE(text.find("7." + std::to_string(old % 10)), std::string::npos) << text;
    EXPECT_NE(text.find("train.precision to f32"), std::string::npos) << text;
    EXPECT_EQ(cuda::capability_warning("cuda:1", old, false), "");
  }
  for (const int able : {80, 86, 89, 90, 100, 120, 0})
    EXPECT_EQ(cuda::capability_warning("cuda:0", able, true), "");
}

TEST(CudaDevice, AFaultNamesTheWayToFindIt) {
  for (const char* fault : {"CUDA error: an illegal memory access was encountered\nmore lines",
                            "rwkvx's CUDA kernel could not be started: invalid argument"}) {
    const auto text = explain_device_fault(fault);
    EXPECT_NE(text.find("CUDA_LAUNCH_BLOCKING=1"), std::string::npos) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  }
  EXPECT_EQ(explain_device_fault("mat1 and mat2 shapes\nx"), "mat1 and mat2 shapes\nx");
}

TEST(CudaDevice, ReferenceOperatorsTurnTheKernelsOff) {
  const cuda::Emulation emulation;
  const auto x = at::zeros({1, 2, 3});
  EXPECT_TRUE(cuda::takes(x));
  {
    const ReferenceOperators reference;
    EXPECT_FALSE(cuda::takes(x));
    {
      const ReferenceOperators fused(false);
      EXPECT_TRUE(cuda::takes(x));
    }
    EXPECT_FALSE(cuda::takes(x));
  }
  EXPECT_TRUE(cuda::takes(x));
}

}  // namespace
}  // namespace rwkvx
