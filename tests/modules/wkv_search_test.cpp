// The WKV kernels of the processor and the bodies of the GPU's over any keys, decays and bonuses.
#include "support/wkv_search.h"

#include <gtest/gtest.h>

#include <limits>

#include "cores/rwkv4/cuda/wkv_body.h"
#include "cores/rwkv4/wkv_kernel.h"
#include "support/instruction_sets.h"

namespace rwkvx {
namespace {

using test::WkvCase;
using test::WkvOutcome;

// One of two kinds of kernel on arrays of `channels`.
template <class Real>
struct Rows {
  std::vector<Real> values;
  Rows(std::size_t steps, std::size_t channels, double value = 0)
      : values(steps * channels, static_cast<Real>(value)) {}
  operator Real*() { return values.data(); }
};

struct ProcessorKernel {
  template <class Real>
  static void forward(std::int64_t T, std::int64_t C, const Real* w, const Real* u, const Real* k,
                      const Real* v, const Real* r, Real* y, const Real* in, Real* out,
                      Real* kept) {
    wkv_forward(WkvForward<Real>{T, C, C, 0, C, w, u, k, v, r, y, in, out, kept});
  }
  template <class Real>
  static void backward(std::int64_t T, std::int64_t C, const Real* w, const Real* u, const Real* k,
                       const Real* v, const Real* r, const Real* kept, const Real* in,
                       const Real* out, const Real* gy, const Real* gout, Real* gk, Real* gv,
                       Real* gr, double* gw, double* gu, Real* gin) {
    wkv_backward(WkvBackward<Real>{T,   C,  C,    0,  C,  w,  u,  k,  v,   r, kept,
                                   out, gy, gout, gk, gv, gr, gw, gu, gin, in});
  }
};

struct GpuBody {
  static void forward(std::int64_t T, std::int64_t C, const float* w, const float* u,
                      const float* k, const float* v, const float* r, float* y, const float* in,
                      float* out, float* kept) {
    const cuda::WkvForwardCall<float> call{1, T, C, w, u, k, v, r, y, in, out, kept};
    for (std::int64_t c = 0; c < C; ++c) cuda::wkv_forward_thread(call, c);
  }
  static void backward(std::int64_t T, std::int64_t C, const float* w, const float* u,
                       const float* k, const float* v, const float* r, const float* kept,
                       const float* in, const float* out, const float* gy, const float* gout,
                       float* gk, float* gv, float* gr, double* gw, double* gu, float* gin) {
    std::vector<float> w_sums(static_cast<std::size_t>(C)), u_sums(w_sums);
    const cuda::WkvBackwardCall<float> call{
        1,  T, C, w, u, k, v, r, kept, in, out, gy, gout, gk, gv, gr, w_sums.data(), u_sums.data(),
        gin};
    for (std::int64_t c = 0; c < C; ++c) cuda::wkv_backward_thread(call, c);
    std::copy(w_sums.begin(), w_sums.end(), gw);
    std::copy(u_sums.begin(), u_sums.end(), gu);
  }
};

// The cases are the channels of one sequence, which goes through the kernel in one call or two.
template <class Kernel, class Real>
std::vector<WkvOutcome> run_kernel(const std::vector<WkvCase>& cases) {
  const std::size_t C = cases.size(), T = cases[0].size();
  const bool gated = !cases[0].r.empty();
  Rows<Real> w(1, C), u(1, C), k(T, C), v(T, C), r(T, C), gy(T, C), y(T, C), gk(T, C), gv(T, C),
      gr(T, C), in(3, C), middle(3, C), out(3, C), gin(3, C), gmiddle(3, C);
  for (std::size_t c = 0; c < C; ++c) {
    const auto& one = cases[c];
    w[c] = static_cast<Real>(one.w), u[c] = static_cast<Real>(one.u);
    in[c] = static_cast<Real>(one.p), in[C + c] = static_cast<Real>(one.q);
    in[2 * C + c] = static_cast<Real>(one.o);
    for (std::size_t t = 0; t < T; ++t) {
      k[t * C + c] = static_cast<Real>(one.k[t]), v[t * C + c] = static_cast<Real>(one.v[t]);
      gy[t * C + c] = static_cast<Real>(one.grad_y[t]);
      if (gated) r[t * C + c] = static_cast<Real>(one.r[t]);
    }
  }
  const std::size_t cut = cases[0].cut, S = 3 * (T / 32 + 2);
  Rows<Real> kept(S, C), kept_before(S, C);
  const auto signed_of = [](std::size_t n) { return static_cast<std::int64_t>(n); };
  const auto at = [&](Rows<Real>& rows, std::size_t t) { return rows + t * C; };
  const auto gate = [&](Rows<Real>& rows, std::size_t t) { return gated ? rows + t * C : nullptr; };
  if (cut > 0)
    Kernel::forward(signed_of(cut), signed_of(C), +w, +u, +k, +v, gate(r, 0), +y, +in, +middle,
                    +kept_before);
  Real* before = cut > 0 ? +middle : +in;
  Kernel::forward(signed_of(T - cut), signed_of(C), +w, +u, at(k, cut), at(v, cut), gate(r, cut),
                  at(y, cut), before, +out, +kept);
  std::vector<double> gw(C), gu(C), gw_before(C), gu_before(C);
  Kernel::backward(signed_of(T - cut), signed_of(C), +w, +u, at(k, cut), at(v, cut), gate(r, cut),
                   +kept, before, +out, at(gy, cut), static_cast<const Real*>(nullptr), at(gk, cut),
                   at(gv, cut), gate(gr, cut), gw.data(), gu.data(), cut > 0 ? +gmiddle : +gin);
  if (cut > 0)
    Kernel::backward(signed_of(cut), signed_of(C), +w, +u, +k, +v, gate(r, 0), +kept_before, +in,
                     +middle, +gy, +gmiddle, +gk, +gv, gate(gr, 0), gw_before.data(),
                     gu_before.data(), +gin);
  std::vector<WkvOutcome> outcomes(C);
  for (std::size_t c = 0; c < C; ++c) {
    auto& one = outcomes[c];
    for (std::size_t t = 0; t < T; ++t) {
      one.y.push_back(static_cast<double>(y[t * C + c]));
      one.grad_k.push_back(static_cast<double>(gk[t * C + c]));
      one.grad_v.push_back(static_cast<double>(gv[t * C + c]));
      one.grad_r.push_back(static_cast<double>(gr[t * C + c]));
    }
    one.ratio = static_cast<double>(out[c]) / static_cast<double>(out[C + c]);
    one.log_q = static_cast<double>(out[2 * C + c]) + std::log(static_cast<double>(out[C + c]));
    one.grad_w = gw[c] + gw_before[c], one.grad_u = gu[c] + gu_before[c];
    one.grad_p = static_cast<double>(gin[c]), one.grad_q = static_cast<double>(gin[C + c]);
  }
  return outcomes;
}

// An exponent of about 100 has an error of 4e-6, and a gradient is the product of two or three.
constexpr test::WkvTolerance kFloat32{2e-5};
constexpr test::WkvTolerance kFloat64{1e-12};

TEST(WkvSearch, EveryInstructionSetIsRightForAnyKeyDecayAndBonus) {
  const double seconds = test::search_seconds(1.5);
  test::for_each_instruction_set([&](const std::string& name) {
    auto allowed = kFloat32;
    // Without fused multiply-add n ln 2 has no more bits than float32.
    if (name == "SCALAR" || name == "SSE2") allowed.exact_keys = 300;
    test::search_wkv("float32, " + name, run_kernel<ProcessorKernel, float>, allowed, seconds / 3);
  });
}

TEST(WkvSearch, TheFloat64KernelIsRightForAnyKeyDecayAndBonus) {
  test::search_wkv("float64", run_kernel<ProcessorKernel, double>, kFloat64,
                   test::search_seconds(0.7));
}

TEST(WkvSearch, TheBodyOfTheGpusKernelIsRightForAnyKeyDecayAndBonus) {
  test::search_wkv("body of the GPU's kernel", run_kernel<GpuBody, float>, kFloat32,
                   test::search_seconds(0.7));
}

}  // namespace
}  // namespace rwkvx
