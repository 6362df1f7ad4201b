// The elementwise, reducing and multiplying kernels over all magnitudes of their inputs.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "rwkvx/kernels/activation.h"
#include "rwkvx/kernels/adamw.h"
#include "rwkvx/kernels/norm.h"
#include "rwkvx/kernels/product.h"
#include "rwkvx/kernels/round_matrix.h"
#include "support/sweep.h"

namespace rwkvx {
namespace {

using test::exact_sigmoid;
using test::Floats;
using test::kTiny;
using test::Norm;
using test::Sweep;
using test::SweepTable;
using test::wide;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

std::int64_t count_of(const Floats& x) { return static_cast<std::int64_t>(x.size()); }

// The size, in units of 1e6, of a denormal factor's last place.
double denormal(float other) { return std::isfinite(other) ? 2e-39 * std::abs(wide(other)) : 0; }

// All triples of a few magnitudes.
struct Triples {
  Floats a, b, c;
  Triples() {
    const auto all = test::magnitudes();
    std::mt19937 random(1);
    std::uniform_int_distribution<std::size_t> at(0, all.size() - 1);
    for (const float x : all)
      for (const float y : all) a.push_back(x), b.push_back(y), c.push_back(all[at(random)]);
    // Ordinary numbers among the extreme ones.
    std::normal_distribution<float> normal;
    for (const float x : all)
      for (int i = 0; i < 8; ++i)
        a.push_back(x), b.push_back(normal(random)), c.push_back(normal(random));
  }
};

TEST(KernelSweep, ActivationsOfAllMagnitudes) {
  SweepTable table;
  const Triples in;
  const std::int64_t N = count_of(in.a);
  const auto size = in.a.size();
  test::for_each_instruction_set([&](const std::string& set) {
    Floats y(size), z(size);
    Sweep square(1e-6, kTiny);
    y = in.a;
    relu_square_forward(y.data(), N);
    for (std::size_t i = 0; i < size; ++i) {
      const double x = wide(in.a[i]);
      square.hold(y[i], x < 0 ? 0 : x * x);
    }
    table.add("relu_square_forward", set, square);

    // From h = relu(k)^2 in float32: its root is all that is left of k.
    Sweep square_back(1e-6, kTiny);
    z = in.b;
    relu_square_backward(y.data(), z.data(), N);
    for (std::size_t i = 0; i < size; ++i)
      square_back.hold(z[i], 2 * std::sqrt(wide(y[i])) * wide(in.b[i]));
    table.add("relu_square_backward", set, square_back);

    Sweep residual(1e-6, kTiny), added(1e-6, kTiny);
    residual_forward(in.a.data(), in.b.data(), y.data(), N);
    z = in.a;
    add_to(z.data(), in.b.data(), N);
    for (std::size_t i = 0; i < size; ++i) {
      const double wanted = wide(in.a[i]) + wide(in.b[i]);
      residual.hold(y[i], wanted), added.hold(z[i], wanted);
    }
    table.add("residual_forward", set, residual);
    table.add("add_to", set, added);

    Sweep gated(1e-6, kTiny);
    gated_residual_forward(in.c.data(), in.a.data(), in.b.data(), y.data(), N);
    for (std::size_t i = 0; i < size; ++i) {
      const double product = exact_sigmoid(wide(in.a[i])) * wide(in.b[i]);
      gated.hold(y[i], wide(in.c[i]) + product,
                 std::abs(product) + std::abs(wide(in.c[i])) + denormal(in.b[i]));
    }
    table.add("gated_residual_forward", set, gated);

    Sweep to_r(1e-6, kTiny), to_v(1e-6, kTiny);
    gated_residual_backward(in.c.data(), in.a.data(), in.b.data(), y.data(), z.data(), N);
    for (std::size_t i = 0; i < size; ++i) {
      const double open = exact_sigmoid(wide(in.a[i])), closed = exact_sigmoid(-wide(in.a[i]));
      const double through = wide(in.c[i]) * open;
      to_v.hold(z[i], through, std::abs(through) + denormal(in.c[i]));
      // Of 0 * infinity it does not matter on which side it is.
      if (!std::isinf(in.a[i]) || (std::isfinite(in.b[i]) && std::isfinite(in.c[i])))
        to_r.hold(y[i], through * closed * wide(in.b[i]),
                  std::abs(through * closed * wide(in.b[i])) +
                      denormal(in.c[i]) * std::abs(wide(in.b[i])) + denormal(in.b[i]));
    }
    table.add("gated_residual_backward: r", set, to_r);
    table.add("gated_residual_backward: v", set, to_v);
  });
}

TEST(KernelSweep, CrossEntropyOfAllMagnitudes) {
  SweepTable table;
  const auto all = test::magnitudes();
  test::for_each_instruction_set([&](const std::string& set) {
    Sweep loss(2e-6, 1e-6), gradient(2e-6, 1e-7);
    const double rounding = set == "SCALAR" ? 2.5 : 0.25;  // one sum instead of one per lane
    for (const std::size_t vocab : {3u, 16u, 67u, 300u})
      for (const float scale : {0.1f, 1.0f, 10.0f, 1e3f, 1e30f})
        for (const float special : all)
          for (const std::size_t at : {std::size_t(0), vocab / 2, vocab - 1}) {
            Floats row(vocab);
            std::mt19937 random(7);
            std::uniform_real_distribution<float> draw(-1, 1);
            for (float& x : row) x = scale * draw(random);
            row[at] = special;
            const std::size_t target = (at + vocab / 3) % vocab;
            double top = -INFINITY, sum = 0;
            bool nan = false;
            for (const float x : row) top = std::max(top, wide(x)), nan |= std::isnan(x);
            for (const float x : row) sum += std::exp(wide(x) - top);
            double wanted = std::log(sum) + top - wide(row[target]);
            if (nan || std::isinf(top)) wanted = NAN;
            auto given = row;
            const double found = cross_entropy_row(given.data(), static_cast<std::int64_t>(vocab),
                                                   static_cast<std::int64_t>(target), 0.25f, 0);
            // Of huge logits the difference has the bits of the larger one.
            loss.hold(static_cast<float>(found), wanted, top);
            for (std::size_t i = 0; i < vocab; ++i) {
              const double share = std::exp(wide(row[i]) - top) / sum - (i == target ? 1 : 0);
              gradient.hold(given[i], std::isnan(wanted) ? NAN : 0.25 * share, rounding);
            }
          }
    table.add("cross_entropy_row: loss", set, loss);
    table.add("cross_entropy_row: gradient", set, gradient);
  });
}

TEST(KernelSweep, AdamwOfAllMagnitudes) {
  SweepTable table;
  const Triples in;
  test::for_each_instruction_set([&](const std::string& set) {
    Sweep moved(2e-6, kTiny), first(2e-6, kTiny), second(2e-6, kTiny);
    for (const float epsilon : {1e-8f, 1e-18f}) {
      Floats x = in.a, grad = in.b, m(x.size()), v(x.size());
      for (std::size_t i = 0; i < x.size(); ++i) {
        m[i] = std::isfinite(in.c[i]) ? std::clamp(in.c[i], -1e30f, 1e30f) : in.c[i];
        v[i] = std::isfinite(in.c[i]) ? std::abs(m[i]) : kNan;
      }
      const AdamwStep step{count_of(x), x.data(), grad.data(), m.data(), v.data(), 0.5f, 1e-3f,
                           0.1f,        0.9f,     0.99f,       epsilon,  2.0f,     3.0f};
      const auto m_before = m, v_before = v;
      adamw_step(step);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double g = wide(in.b[i]) * 0.5, b1 = wide(0.9f), b2 = wide(0.99f);
        const double first_part = b1 * wide(m_before[i]), second_part = (1 - b1) * g;
        const double m_now = first_part + second_part;
        const double v_now = b2 * wide(v_before[i]) + (1 - b2) * g * g;
        first.hold(m[i], m_now, std::abs(first_part) + std::abs(second_part));
        second.hold(v[i], v_now);
        // The second moment of a gradient beyond 1e20 is no float32: then x must not look well.
        const double kept = wide(in.a[i]) * (1 - wide(1e-3f) * wide(0.1f));
        const double away = wide(1e-3f) * m_now * 2 / (std::sqrt(v_now * 3) + wide(epsilon));
        // Moments have the bits of float32, few of them where they are denormal numbers.
        const double last = 1e-3 * 2 / (std::sqrt(v_now * 3) + wide(epsilon));
        const double size = std::abs(kept) +
                            last * (std::abs(first_part) + std::abs(second_part) + 2e-45 / 2e-6) +
                            (v_now < 1e-36 ? 50 * std::abs(away) : 0);
        if (v_now * 3 < 3.4e38) {
          if (m_now * 2 < 3.4e38) moved.hold(x[i], kept - away, size);
        } else if (!std::isinf(in.a[i])) {
          moved.hold(x[i], NAN);
        }
      }
      for (const float g : grad) EXPECT_EQ(g, 0);
    }
    table.add("adamw_step: x", set, moved);
    table.add("adamw_step: first moment", set, first);
    table.add("adamw_step: second moment", set, second);
  });
}

TEST(KernelSweep, SumsOfSquaresOfAllMagnitudes) {
  SweepTable table;
  const auto all = test::magnitudes();
  test::for_each_instruction_set([&](const std::string& set) {
    Sweep sums(1e-6, 1e-100);
    for (const std::size_t count : {1u, 5u, 64u, 5000u})
      for (const float value : all) {
        Floats x(count, value);
        x[count / 2] *= 0.5f;
        double wanted = 0;
        for (const float one : x) wanted += wide(one) * wide(one);
        const double found = sum_of_squares(x.data(), count_of(x));
        if (std::isfinite(wanted) && wanted > 0)  // beyond float32 too
          sums.hold(static_cast<float>(found / wanted), 1);
        else
          sums.hold(static_cast<float>(found), wanted);
      }
    table.add("sum_of_squares", set, sums);
  });
}

// Rows at a scale, and rows with one number of another magnitude or none at all.
std::vector<Floats> rows_of_all_magnitudes(std::size_t channels) {
  std::vector<Floats> rows;
  std::mt19937 random(3);
  std::uniform_real_distribution<float> draw(-1, 1);
  for (const float special : test::magnitudes()) {
    Floats scaled(channels), spiked(channels);
    for (float& x : scaled) x = draw(random) * (std::isfinite(special) ? 0.4f * special : special);
    for (float& x : spiked) x = draw(random);
    spiked[channels / 3] =
        std::abs(special) > 1.7e38f && std::isfinite(special) ? 1.7e38f : special;
    rows.push_back(scaled), rows.push_back(spiked), rows.emplace_back(channels, special * 0.25f);
  }
  return rows;
}

TEST(KernelSweep, LayerNormOfAllMagnitudes) {
  SweepTable table;
  test::for_each_instruction_set([&](const std::string& set) {
    Sweep values(3e-6, 1e-30), gradients(1e-5, 1e-30);
    for (const std::size_t C : {3u, 16u, 67u})
      for (const auto& row : rows_of_all_magnitudes(C)) {
        const auto channels = static_cast<std::int64_t>(C);
        Floats weight(C), bias(C), y(C), dy(C), dx(C), grads(2 * C);
        for (std::size_t c = 0; c < C; ++c)
          weight[c] = 0.5f + 0.1f * static_cast<float>(c % 7), bias[c] = 0.3f,
          dy[c] = c % 2 ? 1 : -2;
        layer_norm_forward(row.data(), weight.data(), bias.data(), channels, 0, 1, y.data());
        layer_norm_backward(row.data(), weight.data(), dy.data(), channels, 0, 1, dx.data(),
                            grads.data());
        const Norm norm(row);
        double mean = 0, along = 0, largest = 0;
        for (std::size_t c = 0; c < C; ++c) {
          const double n = (wide(row[c]) - norm.mean) * norm.scale, dn = wide(dy[c] * weight[c]);
          mean += dn / static_cast<double>(C), along += dn * n / static_cast<double>(C);
          largest = std::max(largest, std::abs(wide(row[c])));
        }
        // A constant row is its mean but for rounding, which the scale makes large.
        const double rounding = largest * norm.scale;
        for (std::size_t c = 0; c < C; ++c) {
          const double n = (wide(row[c]) - norm.mean) * norm.scale;
          values.hold(y[c], n * wide(weight[c]) + wide(bias[c]), 2 + rounding);
          if (rounding < 1e3 || std::isnan(rounding))
            gradients.hold(dx[c], (wide(dy[c] * weight[c]) - mean - n * along) * norm.scale,
                           norm.scale * (4 + rounding) * (4 + rounding));
        }
      }
    table.add("layer_norm_forward", set, values);
    table.add("layer_norm_backward", set, gradients);
  });
}

// The values that a constant receptance of a block must give, whatever its size.
TEST(KernelSweep, SigmoidFarBelowIsNoRisk) {
  test::for_each_instruction_set([&](const std::string& set) {
    for (const float low :
         {-50.0f, -88.0f, -89.0f, -104.0f, -177.0f, -178.0f, -200.0f, -300.0f, -1e30f, -kInf}) {
      const Floats x(21, 1.5f), r(21, low), v(21, 2.0f);
      Floats y(21, kNan);
      gated_residual_forward(x.data(), r.data(), v.data(), y.data(), 21);
      for (const float one : y) EXPECT_EQ(one, 1.5f) << set << ' ' << low;
    }
  });
}

// Weights of each type times vectors of all magnitudes, and rows of all magnitudes times ordinary
// vectors; what rounding the weights costs is not counted.
TEST(KernelSweep, MatrixTimesVectorOfAllMagnitudes) {
  SweepTable table;
  constexpr std::int64_t M = 5, N = 151;
  for (const auto type :
       {WeightType::kF32, WeightType::kBF16, WeightType::kInt8, WeightType::kInt4}) {
    const bool whole = type == WeightType::kInt8 || type == WeightType::kInt4;
    test::for_each_instruction_set([&](const std::string& set) {
      Sweep sweep(type == WeightType::kInt4 ? 5e-3 : whole ? 1e-4 : 2e-6, 1e-30);
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
            const PanelMatrix panels(rounded.view);
            const QuantizedLayout layout(type, N);
            std::vector<std::byte> quantized(static_cast<std::size_t>(layout.bytes));
            if (whole) quantize_activations(panels.view, x.data(), quantized.data());
            Floats y(M);
            multiply_panels(panels.view, 0, M, {1, x.data(), quantized.data()}, y.data(), M);
            for (std::int64_t m = 0; m < M; ++m) {
              double wanted = 0, terms = 0, largest = 0, weights = 0;
              for (std::int64_t n = 0; n < N; ++n) {
                const double a = wide(w[static_cast<std::size_t>(m * N + n)]),
                             b = wide(x[static_cast<std::size_t>(n)]);
                wanted += a * b, terms += std::abs(a * b), weights += std::abs(a);
                largest = std::isnan(b) ? b : std::max(largest, std::abs(b));
              }
              if (whole && !std::isfinite(largest)) {
                EXPECT_FALSE(std::isfinite(y[static_cast<std::size_t>(m)]));
                continue;
              }
              sweep.hold(y[static_cast<std::size_t>(m)], wanted,
                         whole ? terms + largest * weights : terms);
            }
          }
      table.add("multiply_panels, " + std::string(weight_type_name(type)), set, sweep);
    });
  }
}

TEST(KernelSweep, NextToNothingIsNoWrongNumberAndNanIsSeen) {
  test::for_each_instruction_set([&](const std::string& set) {
    for (const auto type : {WeightType::kInt8, WeightType::kInt4})
      for (const std::int64_t N : {3, 16, 130}) {
        const WeightMatrix matrix{.type = type, .rows = 1, .columns = N};
        const QuantizedLayout layout(type, N);
        std::vector<std::byte> quantized(static_cast<std::size_t>(layout.bytes), std::byte{77});
        // The scale of a column.
        const auto scale_of = [&](std::size_t column) {
          const auto group = type == WeightType::kInt8 ? 0 : column / kInt4Group;
          return reinterpret_cast<const float*>(quantized.data() + layout.scales)[group];
        };
        Floats x(static_cast<std::size_t>(N), 1e-44f);
        quantize_activations(matrix, x.data(), quantized.data());
        for (std::size_t at = 0; at < x.size(); ++at) EXPECT_EQ(scale_of(at), 0) << set;
        for (std::int64_t i = 0; i < layout.scales; ++i)
          EXPECT_EQ(quantized[static_cast<std::size_t>(i)], std::byte{0});
        for (const float bad : {kNan, kInf})
          for (std::size_t at = 0; at < x.size(); ++at) {
            x.assign(x.size(), 1.0f);
            x[at] = bad;
            quantize_activations(matrix, x.data(), quantized.data());
            EXPECT_TRUE(std::isnan(scale_of(at))) << set << ' ' << at;
          }
      }
  });
}

}  // namespace
}  // namespace rwkvx
