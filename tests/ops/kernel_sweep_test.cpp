// The elementwise and reducing kernels of training over all magnitudes of their inputs.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "ops/cuda/shift_mix_body.h"
#include "rwkvx/ops/activation_kernel.h"
#include "rwkvx/ops/adamw_kernel.h"
#include "rwkvx/ops/shift_mix_kernel.h"
#include "support/sweep.h"

namespace rwkvx {
namespace {

using test::Sweep;
using test::SweepTable;
using Floats = std::vector<float>;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr double kTiny = 1e-37;  // what gradual underflow may lose

std::int64_t count_of(const Floats& x) { return static_cast<std::int64_t>(x.size()); }
double wide(float x) { return static_cast<double>(x); }
double exact_sigmoid(double x) {
  return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
}

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

struct Norm {
  double mean = 0, scale = 0;
  explicit Norm(const Floats& row) {
    double squares = 0;
    for (const float x : row) mean += wide(x);
    mean /= static_cast<double>(row.size());
    for (const float x : row) squares += (wide(x) - mean) * (wide(x) - mean);
    scale = 1 / std::sqrt(squares / static_cast<double>(row.size()) + 1e-5);
  }
};

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

// One token before which nothing was: b = a + sigmoid(gate_x a + gate_s s + gate_b) conv a.
TEST(KernelSweep, ShiftAndMixesOfAllMagnitudes) {
  SweepTable table;
  const auto all = test::magnitudes();
  const auto run = [&](const std::string& set, bool gpu) {
    Sweep values(2e-6, 1e-6), gradients(2e-5, 1e-6);
    for (const float special : all) {
      const std::int64_t C = 19;
      const auto size = static_cast<std::size_t>(C);
      Floats one(size, 1), zero(size, 0), x(size), conv(size, 0.7f), gate(size), mix(size, 0.25f);
      for (std::size_t c = 0; c < size; ++c) x[c] = 0.1f * static_cast<float>(c);
      std::fill(gate.begin(), gate.end(), special);
      Floats z0(size), z1(size), dz(size, 1), dz1(size, 0.5f), dx(size), grads(20 * size),
          last(size);
      const Norm norm(x);
      if (gpu) {
        Floats a(size), da(size);
        for (std::size_t c = 0; c < size; ++c)
          a[c] = static_cast<float>((wide(x[c]) - norm.mean) * norm.scale);
        cuda::ShiftMixInputs<float> in{};
        in.B = 1, in.T = 1, in.C = C, in.taps = 1, in.mixes = 2, in.a = a.data();
        in.conv = conv.data(), in.gate_x = zero.data(), in.gate_s = zero.data();
        in.gate_b = gate.data(), in.prev = zero.data(), in.mix[0] = in.mix[1] = mix.data();
        const cuda::ShiftMixForwardCall<float, float> forward{
            in, {z0.data(), z1.data()}, last.data()};
        const cuda::ShiftMixBackwardCall<float, float> backward{
            in, {dz.data(), dz1.data()}, da.data(), nullptr, grads.data(), nullptr};
        for (std::int64_t c = 0; c < C; ++c) {
          cuda::shift_mix_forward_thread(forward, {0, 0, c});
          cuda::shift_mix_backward_thread(backward, {0, 0, c}, cuda::OneLane());
        }
        for (std::size_t c = 0; c < size; ++c) {
          const double open = exact_sigmoid(wide(special)), at = wide(a[c]);
          values.hold(z0[c], 0.25 * (at + open * wide(0.7f) * at), std::abs(at));
          gradients.hold(da[c], 1.5 * 0.25 * (1 + open * wide(0.7f)));
          gradients.hold(grads[2 * size + c],
                         1.5 * 0.25 * wide(0.7f) * at * open * exact_sigmoid(-wide(special)), 1);
        }
      } else {
        ShiftMixSite site;
        site.channels = C, site.taps = 1, site.mixes = 2;
        site.norm_weight = one.data(), site.norm_bias = zero.data(), site.conv = conv.data();
        site.gate_x = zero.data(), site.gate_s = zero.data(), site.gate_b = gate.data();
        site.mix[0] = site.mix[1] = mix.data();
        const ShiftMixSequence sequence{1, x.data(), nullptr, zero.data(), zero.data()};
        float* z[] = {z0.data(), z1.data()};
        const float* dzs[] = {dz.data(), dz1.data()};
        shift_mix_forward(site, sequence, 0, 1, z);
        shift_mix_backward(site, sequence, 0, 1, dzs, dx.data(), grads.data(), nullptr);
        for (std::size_t c = 0; c < size; ++c) {
          const double open = exact_sigmoid(wide(special)),
                       at = (wide(x[c]) - norm.mean) * norm.scale;
          values.hold(z0[c], 0.25 * (at + open * wide(0.7f) * at), std::abs(at));
          gradients.hold(grads[size + c], 1.5 * 0.25 * (1 + open * wide(0.7f)));  // norm_bias
          gradients.hold(grads[4 * size + c],
                         1.5 * 0.25 * wide(0.7f) * at * open * exact_sigmoid(-wide(special)), 1);
        }
      }
    }
    table.add(gpu ? "body of shift_mix: values" : "shift_mix: values", set, values);
    table.add(gpu ? "body of shift_mix: gradients" : "shift_mix: gradients", set, gradients);
  };
  test::for_each_instruction_set([&](const std::string& set) { run(set, false); });
  run("emulated", true);
}

TEST(KernelSweep, GpuScalarsOfAllMagnitudes) {
  SweepTable table;
  Sweep gate(1e-6, kTiny), powers(0, 1e-44), narrow(0.004, 1e-40);
  for (const float x : test::magnitudes(20)) {
    gate.hold(cuda::sigmoid(x), std::isnan(x) ? NAN : exact_sigmoid(wide(x)));
    cuda::Bf16 kept{};
    cuda::store(&kept, 0, x);
    if (!(std::abs(x) > 3.38e38f) || std::isinf(x)) narrow.hold(cuda::load(&kept, 0), wide(x));
  }
  for (int n = -126; n <= 127; ++n)
    powers.hold(cuda::power2(static_cast<float>(n)), std::ldexp(1.0, n));
  table.add("sigmoid on the GPU", "emulated", gate);
  table.add("bfloat16 on the GPU", "emulated", narrow);
  table.add("power2 on the GPU", "emulated", powers);
  EXPECT_EQ(cuda::power2(-1e30f), 0);
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

}  // namespace
}  // namespace rwkvx
