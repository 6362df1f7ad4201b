// The kernels of the shift and the CUDA bodies over all magnitudes of their inputs.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "cores/shift/cuda/shift_mix_body.h"
#include "cores/shift/mix_kernel.h"
#include "cores/shift/step_kernel.h"
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

// One token before which nothing was: b = a + sigmoid(gate_x a + gate_s s + gate_b) conv a.
TEST(CoreSweep, ShiftAndMixesOfAllMagnitudes) {
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

TEST(CoreSweep, GpuScalarsOfAllMagnitudes) {
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

TEST(CoreSweep, StepOfNormAndShiftOfAllMagnitudes) {
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
        normalize(row.data(), moments, weight.data(), bias.data(), 0, static_cast<std::int64_t>(C),
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
    table.add("row_moments and normalize", set, normal);
    table.add("shift_mix_rows", set, mixed);
  });
}

}  // namespace
}  // namespace rwkvx
