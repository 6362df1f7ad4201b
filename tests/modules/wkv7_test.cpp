#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "cores/rwkv7/modules/wkv.h"
#include "support/tensors.h"
#include "support/wkv7_inputs.h"

namespace rwkvx {
namespace {

using test::expect_close;
using test::expect_near_in_norm;
using test::Tensors;
using test::wkv7_inputs;
using test::wkv7_names;
using test::wkv7_outcome;

void compare(int64_t T, int64_t N, at::ScalarType type, double tolerance) {
  at::manual_seed(7);
  const auto in = wkv7_inputs(2, T, 3, N);
  const auto fast = wkv7_outcome(wkv7, in, type);
  const auto slow = wkv7_outcome(wkv7_reference, in, at::kDouble);
  for (std::size_t i = 0; i < fast.size(); ++i)
    expect_near_in_norm(
        fast[i], slow[i], tolerance,
        std::string(wkv7_names[i]) + " at T = " + std::to_string(T) + ", N = " + std::to_string(N));
}

TEST(Wkv7, EqualsTheFloat64ReferenceInValuesAndGradients) {
  for (const int64_t T : {1, 15, 16, 17, 40})
    for (const int64_t N : {8, 32, 64}) compare(T, N, at::kFloat, 2e-6);
  compare(200, 64, at::kFloat, 2e-6);
  compare(20, 16, at::kDouble, 1e-14);
}

TEST(Wkv7, SizesThatTheKernelDoesNotTakeGoThroughTheReference) {
  for (const int64_t N : {1, 12, 264}) compare(5, N, at::kFloat, 2e-6);
}

TEST(Wkv7, PassesGradientsThroughACarriedState) {
  // Two pieces with the state between them are one sequence.
  at::manual_seed(11);
  const auto in = wkv7_inputs(2, 41, 2, 8);
  const auto pieces = [](const at::Tensor& r, const at::Tensor& d, const at::Tensor& k,
                         const at::Tensor& v, const at::Tensor& z, const at::Tensor& b,
                         const at::Tensor& state) {
    const auto piece = [&](int64_t from, int64_t to, const at::Tensor& before) {
      const auto cut = [&](const at::Tensor& x) { return x.slice(1, from, to); };
      return wkv7(cut(r), cut(d), cut(k), cut(v), cut(z), cut(b), before);
    };
    const auto [head, middle] = piece(0, 13, state);
    const auto [tail, end] = piece(13, 41, middle);
    return std::pair{at::cat({head, tail}, 1), end};
  };
  const auto whole = wkv7_outcome(wkv7, in, at::kDouble);
  const auto split = wkv7_outcome(pieces, in, at::kDouble);
  for (std::size_t i = 0; i < whole.size(); ++i)
    expect_close(split[i], whole[i], 1e-12, 1e-12, wkv7_names[i]);
}

TEST(Wkv7, GivesGradientsOfTheOutputAloneAndOfTheStateAlone) {
  at::manual_seed(3);
  const auto in = wkv7_inputs(1, 18, 2, 16);
  for (const bool of_state : {false, true}) {
    std::vector<Tensors> all;
    for (const auto& operation : {wkv7, wkv7_reference}) {
      Tensors x;
      for (int i = 0; i < 7; ++i) x.push_back(in[i].detach().to(at::kDouble).requires_grad_());
      const auto [y, state] = operation(x[0], x[1], x[2], x[3], x[4], x[5], x[6]);
      x.erase(x.begin());  // the state has no part of r
      all.push_back(torch::autograd::grad({(of_state ? state : y).sum()}, x));
    }
    for (std::size_t i = 0; i < all[0].size(); ++i)
      expect_close(all[0][i], all[1][i], 1e-12, 1e-12, std::to_string(i));
  }
}

TEST(Wkv7, DoesNotDependOnTheNumberOfThreads) {
  at::manual_seed(2);
  const auto in = wkv7_inputs(3, 40, 5, 16);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto one = wkv7_outcome(wkv7, in, at::kFloat);
  at::set_num_threads(2);
  const auto two = wkv7_outcome(wkv7, in, at::kFloat);
  at::set_num_threads(threads);
  for (std::size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], two[i])) << i;
}

TEST(Wkv7, RefusesShapesThatDoNotBelongTogether) {
  at::manual_seed(2);
  auto in = wkv7_inputs(1, 4, 2, 8);
  const auto call = [&](const Tensors& x) { wkv7(x[0], x[1], x[2], x[3], x[4], x[5], x[6]); };
  for (const std::size_t i : {0, 1, 2, 3, 4, 5, 6}) {
    auto wrong = in;
    wrong[i] = wrong[i].slice(1, 0, 1);
    EXPECT_THROW(call(wrong), c10::Error) << i;
  }
}

}  // namespace
}  // namespace rwkvx
