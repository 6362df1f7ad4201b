#include "cores/rwkv4/modules/wkv.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "support/tensors.h"

namespace rwkvx {
namespace {

using test::expect_close;
using test::expect_near_in_norm;

struct Inputs {
  at::Tensor w, u, k, v, state, r, grad_y;
  std::vector<at::Tensor> all() const { return {w, u, k, v, state, r}; }
};

// Keys up to +-`range`, decays from slow to very fast, a state from earlier tokens.
Inputs make_inputs(int64_t B, int64_t T, int64_t C, double range, at::ScalarType type,
                   bool started = true) {
  const auto options = at::TensorOptions(type);
  Inputs in;
  in.w = -at::exp(at::linspace(-6, 3, C, options));
  in.u = at::randn({C}, options) * 0.7;
  in.k = (at::rand({B, T, C}, options) * 2 - 1) * range;
  in.v = at::randn({B, T, C}, options);
  in.r = at::randn({B, T, C}, options);
  in.grad_y = at::randn({B, T, C}, options);
  in.state = wkv_start(B, C, options);
  if (started) {
    in.state.select(1, 0).copy_(at::randn({B, C}, options));
    in.state.select(1, 1).copy_(at::rand({B, C}, options) + 0.1);
    in.state.select(1, 2).copy_(at::randn({B, C}, options) * range / 2);
  }
  return in;
}

// The outputs and the gradients of all inputs, through the output and through the state.
std::vector<at::Tensor> outcome(bool fast, const Inputs& in, at::ScalarType type, bool gated) {
  std::vector<at::Tensor> leaves;
  for (const auto& one : in.all()) leaves.push_back(one.detach().to(type).requires_grad_());
  const auto r = gated ? leaves[5] : at::Tensor();
  auto [y, state] = fast ? wkv(leaves[0], leaves[1], leaves[2], leaves[3], leaves[4], r)
                         : wkv_reference(leaves[0], leaves[1], leaves[2], leaves[3], leaves[4], r);
  // The state is used as a following call uses it.
  const auto next = in.k.select(1, 0).to(type);
  const auto m = at::maximum(state.select(1, 2), next);
  const auto later = (at::exp(state.select(1, 2) - m) * state.select(1, 0) + at::exp(next - m)) /
                     (at::exp(state.select(1, 2) - m) * state.select(1, 1) + at::exp(next - m));
  const auto loss = (y * in.grad_y.to(type)).sum() + later.sum();
  std::vector<at::Tensor> wanted(leaves.begin(), leaves.end() - (gated ? 0 : 1));
  auto grads = torch::autograd::grad({loss}, wanted);
  std::vector<at::Tensor> all{y.detach(), (state.select(1, 0) / state.select(1, 1)).detach()};
  all.insert(all.end(), grads.begin(), grads.end());
  return all;
}

void compare(int64_t T, double range, bool gated) {
  at::manual_seed(7);
  const auto in = make_inputs(2, T, 37, range, at::kFloat);
  const auto fast = outcome(true, in, at::kFloat, gated);
  const auto slow = outcome(false, in, at::kDouble, gated);
  const char* names[] = {"y", "p/q", "w", "u", "k", "v", "state", "r"};
  for (std::size_t i = 0; i < fast.size(); ++i)
    expect_near_in_norm(fast[i], slow[i], 1e-5,
                        std::string(names[i]) + " at T = " + std::to_string(T));
}

TEST(Wkv, EqualsTheFloat64ReferenceInValuesAndGradients) {
  for (const int64_t T : {1, 2, 31, 32, 33, 65, 500})
    for (const double range : {1.0, 8.0, 90.0}) {
      compare(T, range, /*gated=*/false);
      compare(T, range, /*gated=*/true);
    }
}

TEST(WkvSlow, EqualsTheFloat64ReferenceOnLongSequences) {
  for (const double range : {3.0, 90.0}) compare(4097, range, /*gated=*/true);
}

TEST(Wkv, EqualsTheReferenceInFloat64) {
  at::manual_seed(3);
  const auto in = make_inputs(2, 70, 9, 5.0, at::kDouble);
  const auto fast = outcome(true, in, at::kDouble, true);
  const auto slow = outcome(false, in, at::kDouble, true);
  for (std::size_t i = 0; i < fast.size(); ++i)
    expect_near_in_norm(fast[i], slow[i], 1e-12, std::to_string(i));
}

TEST(Wkv, HasTheGradientsOfFiniteDifferences) {
  at::manual_seed(5);
  const auto in = make_inputs(1, 5, 3, 2.0, at::kDouble);
  auto leaves = in.all();
  for (auto& leaf : leaves) leaf = leaf.clone().requires_grad_();
  const auto loss_of = [&](const std::vector<at::Tensor>& x) {
    const auto y = wkv(x[0], x[1], x[2], x[3], x[4], x[5]).first;
    return (y * in.grad_y).sum();
  };
  const auto grads = torch::autograd::grad({loss_of(leaves)}, leaves);
  constexpr double kStep = 1e-6;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    auto numeric = at::zeros_like(leaves[i]);
    for (int64_t e = 0; e < numeric.numel(); ++e) {
      auto up = in.all(), down = in.all();
      up[i] = up[i].clone(), down[i] = down[i].clone();
      up[i].view({-1})[e] += kStep;
      down[i].view({-1})[e] -= kStep;
      numeric.view({-1})[e] = (loss_of(up) - loss_of(down)) / (2 * kStep);
    }
    expect_close(grads[i], numeric, 1e-6, 1e-7, "input " + std::to_string(i));
  }
}

TEST(Wkv, PassesGradientsThroughACarriedState) {
  // Two chunks with the state between them are one sequence.
  at::manual_seed(11);
  const auto in = make_inputs(2, 41, 5, 4.0, at::kDouble, /*started=*/false);
  auto leaves = in.all();
  for (auto& leaf : leaves) leaf = leaf.clone().requires_grad_();
  const auto whole = wkv(leaves[0], leaves[1], leaves[2], leaves[3], leaves[4]).first;
  const auto whole_grads = torch::autograd::grad({(whole * in.grad_y).sum()},
                                                 {leaves[0], leaves[1], leaves[2], leaves[3]});
  const auto k = leaves[2], v = leaves[3];
  const auto [head, middle] =
      wkv(leaves[0], leaves[1], k.slice(1, 0, 13), v.slice(1, 0, 13), leaves[4]);
  const auto tail = wkv(leaves[0], leaves[1], k.slice(1, 13), v.slice(1, 13), middle).first;
  const auto split = at::cat({head, tail}, 1);
  const auto split_grads = torch::autograd::grad({(split * in.grad_y).sum()},
                                                 {leaves[0], leaves[1], leaves[2], leaves[3]});
  expect_close(split, whole, 1e-12, 1e-12, "values");
  for (std::size_t i = 0; i < whole_grads.size(); ++i)
    expect_close(split_grads[i], whole_grads[i], 1e-9, 1e-11, std::to_string(i));
}

TEST(Wkv, SplittingTheSequenceDoesNotChangeTheOutput) {
  at::manual_seed(1);
  const auto in = make_inputs(2, 50, 20, 6.0, at::kFloat, /*started=*/false);
  const auto whole = wkv(in.w, in.u, in.k, in.v, in.state).first;
  for (const int64_t chunk : {1, 2, 3, 17, 49}) {
    auto state = in.state;
    std::vector<at::Tensor> parts;
    for (int64_t t = 0; t < 50; t += chunk) {
      auto [y, next] =
          wkv(in.w, in.u, in.k.slice(1, t, t + chunk), in.v.slice(1, t, t + chunk), state);
      parts.push_back(y);
      state = next;
    }
    expect_close(at::cat(parts, 1), whole, 1e-5, 1e-6, "chunks of " + std::to_string(chunk));
  }
}

TEST(Wkv, DoesNotDependOnTheNumberOfThreads) {
  at::manual_seed(2);
  const auto in = make_inputs(3, 64, 130, 3.0, at::kFloat);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto one = outcome(true, in, at::kFloat, true);
  at::set_num_threads(2);
  const auto two = outcome(true, in, at::kFloat, true);
  at::set_num_threads(threads);
  for (std::size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], two[i])) << i;
}

TEST(Wkv, TakesDecaysAndBonusesBeyondTheKernelsRange) {
  at::manual_seed(4);
  auto in = make_inputs(1, 9, 4, 5.0, at::kFloat, false);
  in.w[1] = -400;
  in.u[2] = 75;
  const auto fast = wkv(in.w, in.u, in.k, in.v, in.state).first;
  const auto slow = wkv_reference(in.w, in.u, in.k, in.v, in.state).first;
  expect_close(fast, slow, 1e-6, 1e-6);
}

// e^w is 0 in float32 or nearly so, and keys fall farther than its exponents reach: what is left of
// the state and what is added to it both vanish at the scale that the state had.
TEST(Wkv, HasFiniteGradientsWhereAFastDecayAndAFallingKeyBothVanish) {
  const std::vector<std::vector<double>> keys{{60, -60, -50, -40, 60},      {60, -60, -50},
                                              {120, -120, -119, 100, -100}, {-80, -200, 80, -90, 5},
                                              {0, -150, -300, -450, -449},  {9, 9, -99, -99, 9}};
  for (const auto& row : keys)
    for (const double w : {-1.0, -60.0, -87.0, -104.6, -150.0, -1e4, -1e30})
      for (const double u : {0.0, 3.0, -70.0, 70.0, 400.0, -400.0})
        for (const bool started : {false, true}) {
          const auto T = static_cast<int64_t>(row.size());
          at::manual_seed(11);
          auto in = make_inputs(1, T, 19, 1, at::kFloat, started);
          in.k.copy_(at::tensor(row).to(at::kFloat).view({1, T, 1}).expand({1, T, 19}));
          in.w.fill_(w);
          in.u.fill_(u);
          if (started) in.state.select(1, 2).fill_(100);
          const auto fast = outcome(true, in, at::kFloat, true);
          const auto slow = outcome(false, in, at::kDouble, true);
          const char* names[] = {"y", "p/q", "w", "u", "k", "v", "state", "r"};
          for (std::size_t i = 0; i < fast.size(); ++i)
            expect_near_in_norm(fast[i], slow[i], 1e-4,
                                std::string(names[i]) + " at w = " + std::to_string(w) +
                                    ", u = " + std::to_string(u) + ", first keys " +
                                    std::to_string(row[0]) + " " + std::to_string(row[1]),
                                /*smallest=*/1e-4);
        }
}

TEST(Wkv, KeepsFarAwayKeysFinite) {
  // A key falls by 180 between two tokens and rises again.
  const auto k = at::tensor({90.f, -90.f, -90.f, 90.f, -90.f}).view({1, 5, 1});
  const auto v = at::tensor({1.f, 2.f, 3.f, 4.f, 5.f}).view({1, 5, 1});
  const auto w = at::tensor({-55.f}), u = at::tensor({0.5f});
  const auto state = wkv_start(1, 1, at::kFloat);
  expect_close(wkv(w, u, k, v, state).first, wkv_reference(w, u, k, v, state).first, 1e-5, 1e-6);
}

}  // namespace
}  // namespace rwkvx
