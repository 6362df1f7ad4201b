// The engine's WKV over any keys, decays and bonuses.
#include <gtest/gtest.h>

#include "cores/rwkv4/step_kernel.h"
#include "support/instruction_sets.h"
#include "support/wkv_search.h"

namespace rwkvx {
namespace {

using test::WkvCase;
using test::WkvOutcome;

// The cases are the channels of one sequence, in one call or two.
std::vector<WkvOutcome> run_engine(const std::vector<WkvCase>& cases) {
  const std::size_t C = cases.size(), T = cases[0].size(), cut = cases[0].cut;
  std::vector<float> w(C), u(C), k(T * C), v(k), r(k), y(k), state(3 * C);
  for (std::size_t c = 0; c < C; ++c) {
    const auto& one = cases[c];
    w[c] = static_cast<float>(one.w), u[c] = static_cast<float>(one.u);
    state[c] = static_cast<float>(one.p), state[C + c] = static_cast<float>(one.q);
    state[2 * C + c] = static_cast<float>(one.o);
    for (std::size_t t = 0; t < T; ++t) {
      k[t * C + c] = static_cast<float>(one.k[t]), v[t * C + c] = static_cast<float>(one.v[t]);
      r[t * C + c] = static_cast<float>(one.r.empty() ? INFINITY : one.r[t]);
    }
  }
  const auto run = [&](std::size_t first, std::size_t last) {
    const std::size_t at = first * C;
    wkv_rows({static_cast<std::int64_t>(last - first), static_cast<std::int64_t>(C), w.data(),
              u.data(), k.data() + at, v.data() + at, r.data() + at, state.data(), y.data() + at},
             0, static_cast<std::int64_t>(C));
  };
  if (cut > 0) run(0, cut);
  run(cut, T);
  std::vector<WkvOutcome> outcomes(C);
  for (std::size_t c = 0; c < C; ++c) {
    auto& one = outcomes[c];
    for (std::size_t t = 0; t < T; ++t) one.y.push_back(static_cast<double>(y[t * C + c]));
    one.ratio = static_cast<double>(state[c]) / static_cast<double>(state[C + c]);
    one.log_q = static_cast<double>(state[2 * C + c]) + std::log(static_cast<double>(state[C + c]));
  }
  return outcomes;
}

TEST(EngineWkvSearch, EveryInstructionSetIsRightForAnyKeyDecayAndBonus) {
  const double seconds = test::search_seconds(1);
  test::for_each_instruction_set([&](const std::string& name) {
    // The state's exponent o has the bits of a float32, and is rounded at every step.
    test::WkvTolerance allowed{2e-5, 1.2e-7, /*gradients=*/false, /*exact_keys=*/300};
    test::search_wkv("engine, " + name, run_engine, allowed, seconds / 3);
  });
}

}  // namespace
}  // namespace rwkvx
