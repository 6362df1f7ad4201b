// The engine's kernels over all magnitudes of their inputs.
#include <gtest/gtest.h>

#include <random>

#include "engine/matvec_kernel.h"
#include "engine/step_kernel.h"
#include "support/sweep.h"

namespace rwkvx {
namespace {

using test::Sweep;
using test::SweepTable;
using Floats = std::vector<float>;

double wide(float x) { return static_cast<double>(x); }
double exact_sigmoid(double x) {
  return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
}

TEST(EngineSweep, ElementwiseKernelsOfAllMagnitudes) {
  SweepTable table;
  const auto all = test::magnitudes();
  Floats x, r, y;
  for (const float a : all)
    for (const float b : all)
      x.push_back(a), r.push_back(b), y.push_back(all[(x.size() * 31) % all.size()]);
  const auto N = static_cast<std::int64_t>(x.size());
  test::for_each_instruction_set([&](const std::string& set) {
    Sweep square(1e-6, 1e-37), added(1e-6, 1e-37), gated(1e-6, 1e-37);
    Floats to = x;
    relu_square(to.data(), 0, N);
    for (std::size_t i = 0; i < x.size(); ++i)
      square.hold(to[i], x[i] < 0 ? 0 : wide(x[i]) * wide(x[i]));
    to = x;
    add_rows(to.data(), y.data(), 0, N);
    for (std::size_t i = 0; i < x.size(); ++i) added.hold(to[i], wide(x[i]) + wide(y[i]));
    to = x;
    add_gated(to.data(), r.data(), y.data(), 0, N);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double product = exact_sigmoid(wide(r[i])) * wide(y[i]);
      const double last = std::isfinite(y[i]) ? 2e-39 * std::abs(wide(y[i])) : 0;
      gated.hold(to[i], wide(x[i]) + product, std::abs(wide(x[i])) + std::abs(product) + last);
    }
    table.add("relu_square", set, square);
    table.add("add_rows", set, added);
    table.add("add_gated", set, gated);
  });
}

TEST(EngineSweep, LayerNormAndShiftOfAllMagnitudes) {
  SweepTable table;
  test::for_each_instruction_set([&](const std::string& set) {
    Sweep normal(3e-6, 1e-30), mixed(3e-6, 1e-30);
    for (const std::size_t C : {3u, 19u, 64u})
      for (const float special : test::magnitudes()) {
        std::mt19937 random(3);
        std::uniform_real_distribution<float> draw(-1, 1);
        Floats row(C), weight(C, 0.5f), bias(C, 0.25f), y(C);
        for (float& x : row) x = draw(random) * (std::isfinite(special) ? 0.4f * special : special);
        const auto moments = row_moments(row.data(), static_cast<std::int64_t>(C));
        normalise(row.data(), moments, weight.data(), bias.data(), 0, static_cast<std::int64_t>(C),
                  y.data());
        double mean = 0, squares = 0, largest = 0;
        for (const float x : row) mean += wide(x) / static_cast<double>(C);
        for (const float x : row)
          squares += (wide(x) - mean) * (wide(x) - mean),
              largest = std::max(largest, std::abs(wide(x)));
        const double scale = 1 / std::sqrt(squares / static_cast<double>(C) + 1e-5);
        // b = a + sigmoid(special) 0.7 a, from a state of zeros.
        Floats conv(C, 0.7f), zero(C), gate(C, special), prev(C), z0(C), z1(C), mix(C, 0.25f), x(C);
        for (float& one : x) one = draw(random);
        const auto plain = row_moments(x.data(), static_cast<std::int64_t>(C));
        ShiftMixWeights site;
        site.channels = static_cast<std::int64_t>(C), site.taps = 1, site.mixes = 2;
        site.norm_weight = weight.data(), site.norm_bias = bias.data(), site.conv = conv.data();
        site.gate_x = zero.data(), site.gate_s = zero.data(), site.gate_b = gate.data();
        site.mix[0] = site.mix[1] = mix.data();
        ShiftMixRows rows;
        Floats ring(C);
        rows.tokens = 1, rows.x = x.data(), rows.moments = &plain, rows.ring = ring.data();
        rows.prev = prev.data(), rows.z[0] = z0.data(), rows.z[1] = z1.data();
        shift_mix_rows(site, rows, 0, static_cast<std::int64_t>(C));
        for (std::size_t c = 0; c < C; ++c) {
          normal.hold(y[c], (wide(row[c]) - mean) * scale * 0.5 + 0.25, 2 + largest * scale);
          const double a = (wide(x[c]) - wide(plain.mean)) * wide(plain.scale) * 0.5 + 0.25;
          mixed.hold(z0[c], 0.25 * a * (1 + exact_sigmoid(wide(special)) * wide(0.7f)), 2);
        }
      }
    table.add("row_moments and normalise", set, normal);
    table.add("shift_mix_rows", set, mixed);
  });
}

// Weights of each type times vectors of all magnitudes, and rows of all magnitudes times ordinary
// vectors; what rounding the weights costs is not counted.
TEST(EngineSweep, MatrixTimesVectorOfAllMagnitudes) {
  SweepTable table;
  constexpr std::int64_t M = 5, N = 151;
  for (const auto type :
       {WeightType::kF32, WeightType::kBF16, WeightType::kInt8, WeightType::kInt4}) {
    const bool whole = type == WeightType::kInt8 || type == WeightType::kInt4;
    test::for_each_instruction_set([&](const std::string& set) {
      Sweep sweep(whole ? 1e-4 : 2e-6, 1e-30);
      for (const bool of_weights : {false, true})
        for (const float special : test::magnitudes())
          for (const bool alone : {false, true}) {
            if (of_weights && !std::isfinite(special)) continue;
            // Beyond this the sum itself is no float32, or that of 16-bit numbers before its scale.
            const float most = whole ? 1e28f : 1e35f;
            const float size = std::isfinite(special) ? std::clamp(special, -most, most) : special;
            std::mt19937 random(5);
            std::uniform_real_distribution<float> draw(-1, 1);
            Floats w(M * N), x(N);
            for (float& one : w) one = draw(random) * (of_weights && !alone ? size : 1);
            for (float& one : x) one = draw(random) * (of_weights || alone ? 1 : size);
            if (alone && of_weights) w[2 * N + 40] = size;
            if (alone && !of_weights) x[40] = size;
            const auto rounded = round_matrix(w.data(), M, N, type);
            unpack_rows(rounded.view, 0, M, w.data());
            std::vector<std::int16_t> q(static_cast<std::size_t>(activation_stride(N)));
            float scale = 0;
            quantise_activations(x.data(), rounded.view.column_scales, N, q.data(), &scale);
            Floats y(M);
            matvec_rows(rounded.view, 0, M, {1, x.data(), q.data(), &scale}, y.data(), M);
            for (std::int64_t m = 0; m < M; ++m) {
              double wanted = 0, terms = 0, largest = 0, weights = 0;
              for (std::int64_t n = 0; n < N; ++n) {
                const double a = wide(w[static_cast<std::size_t>(m * N + n)]),
                             b = wide(x[static_cast<std::size_t>(n)]);
                wanted += a * b, terms += std::abs(a * b), weights += std::abs(a);
                largest = std::max(largest, std::abs(b));
              }
              if (whole && !std::isfinite(scale)) {
                EXPECT_FALSE(std::isfinite(y[static_cast<std::size_t>(m)]));
                continue;
              }
              sweep.hold(y[static_cast<std::size_t>(m)], wanted,
                         whole ? terms + largest * weights : terms);
            }
          }
      table.add("matvec_rows, " + std::string(weight_type_name(type)), set, sweep);
    });
  }
}

TEST(EngineSweep, NextToNothingIsNoWrongNumberAndNanIsSeen) {
  test::for_each_instruction_set([&](const std::string& set) {
    for (const std::int64_t N : {3, 16, 130}) {
      std::vector<std::int16_t> q(static_cast<std::size_t>(activation_stride(N)), 77);
      Floats x(static_cast<std::size_t>(N), 1e-44f);
      float scale = 5;
      quantise_activations(x.data(), nullptr, N, q.data(), &scale);
      EXPECT_EQ(scale, 0) << set;
      for (const auto one : q) EXPECT_EQ(one, 0);
      for (const float bad :
           {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
        for (std::size_t at = 0; at < x.size(); ++at) {
          x.assign(x.size(), 1.0f);
          x[at] = bad;
          quantise_activations(x.data(), nullptr, N, q.data(), &scale);
          EXPECT_TRUE(std::isnan(scale)) << set << ' ' << at;
        }
    }
  });
}

}  // namespace
}  // namespace rwkvx
