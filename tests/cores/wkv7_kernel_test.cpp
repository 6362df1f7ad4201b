// The WKV kernel of RWKV-7: against numbers of other programs, a float64 loop, finite differences.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cores/rwkv7/wkv_kernel.h"
#include "rwkvx/formats/safetensors.h"
#include "support/golden.h"
#include "support/instruction_sets.h"

namespace rwkvx {
namespace {

template <class Real>
using Numbers = std::vector<Real>;

constexpr double kDecayScale = 0.60653065971263342;  // e^-0.5

// A head's inputs and outputs, rows packed without gaps: stride N.
template <class Real>
struct Head {
  std::int64_t T = 0, N = 0;
  Numbers<Real> r, d, k, v, z, b, state_in, grad_y, grad_state_out;

  std::size_t cells() const { return static_cast<std::size_t>(N * N); }
};

template <class Real>
struct Outcome {
  Numbers<Real> y, state_out, grad_r, grad_d, grad_k, grad_v, grad_z, grad_b, grad_state_in;
};

constexpr const char* kNames[] = {"y",      "state_out", "grad_r", "grad_d",       "grad_k",
                                  "grad_v", "grad_z",    "grad_b", "grad_state_in"};
template <class Real>
std::vector<const Numbers<Real>*> all_of(const Outcome<Real>& one) {
  return {&one.y,      &one.state_out, &one.grad_r, &one.grad_d,       &one.grad_k,
          &one.grad_v, &one.grad_z,    &one.grad_b, &one.grad_state_in};
}

// As a trained head has them: z = -kappa with |kappa| = 1, b = kappa a.
template <class Real>
Head<Real> make_head(std::int64_t T, std::int64_t N, double decay = 0, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  const auto numbers = [&](std::int64_t count, double scale) {
    Numbers<Real> all(static_cast<std::size_t>(count));
    for (Real& x : all) x = static_cast<Real>(static_cast<float>(scale * normal(random)));
    return all;
  };
  Head<Real> head;
  head.T = T, head.N = N;
  head.r = numbers(T * N, 1), head.k = numbers(T * N, 0.5), head.v = numbers(T * N, 1);
  head.d = numbers(T * N, 1.5), head.z = numbers(T * N, 1), head.b = numbers(T * N, 1);
  for (Real& x : head.d)
    x = static_cast<Real>(std::exp(-kDecayScale / (1 + std::exp(-static_cast<double>(x) - decay))));
  for (std::size_t row = 0; row < head.z.size(); row += static_cast<std::size_t>(N)) {
    double square = 0;
    for (std::size_t j = row; j < row + static_cast<std::size_t>(N); ++j)
      square += static_cast<double>(head.z[j] * head.z[j]);
    for (std::size_t j = row; j < row + static_cast<std::size_t>(N); ++j) {
      head.z[j] = static_cast<Real>(static_cast<double>(head.z[j]) / std::sqrt(square));
      const double a = 1 / (1 + std::exp(-static_cast<double>(head.b[j])));
      head.b[j] = static_cast<Real>(-a * static_cast<double>(head.z[j]));
    }
  }
  head.state_in = numbers(N * N, 0.5);
  head.grad_y = numbers(T * N, 1), head.grad_state_out = numbers(N * N, 0.5);
  return head;
}

template <class To, class From>
Head<To> converted(const Head<From>& from) {
  Head<To> to;
  to.T = from.T, to.N = from.N;
  const auto convert = [](const Numbers<From>& x) { return Numbers<To>(x.begin(), x.end()); };
  to.r = convert(from.r), to.d = convert(from.d), to.k = convert(from.k), to.v = convert(from.v);
  to.z = convert(from.z), to.b = convert(from.b), to.state_in = convert(from.state_in);
  to.grad_y = convert(from.grad_y), to.grad_state_out = convert(from.grad_state_out);
  return to;
}

template <class Real>
Wkv7Forward<Real> forward_call(const Head<Real>& head, std::int64_t from = 0) {
  const std::int64_t at = from * head.N;
  return {head.T - from,
          head.N,
          head.N,
          head.r.data() + at,
          head.d.data() + at,
          head.k.data() + at,
          head.v.data() + at,
          head.z.data() + at,
          head.b.data() + at,
          head.state_in.data(),
          nullptr,
          nullptr,
          nullptr};
}

// The kernel, forward and backward.
template <class Real>
Outcome<Real> run(const Head<Real>& head) {
  const auto rows = head.r.size(), cells = head.cells();
  const Real unset = std::numeric_limits<Real>::quiet_NaN();
  const Numbers<Real> row(rows, unset), state(cells, unset);
  Outcome<Real> out{row, state, row, row, row, row, row, row, state};
  Numbers<Real> kept(static_cast<std::size_t>(wkv7_segments(head.T)) * cells, unset);
  auto forward = forward_call(head);
  forward.state_out = out.state_out.data(), forward.y = out.y.data(), forward.kept = kept.data();
  wkv7_forward(forward);
  Numbers<Real> scratch(static_cast<std::size_t>(wkv7_backward_scratch(head.N)), unset);
  wkv7_backward(Wkv7Backward<Real>{head.T,
                                   head.N,
                                   head.N,
                                   head.r.data(),
                                   head.d.data(),
                                   head.k.data(),
                                   head.v.data(),
                                   head.z.data(),
                                   head.b.data(),
                                   kept.data(),
                                   head.grad_y.data(),
                                   head.grad_state_out.data(),
                                   out.grad_r.data(),
                                   out.grad_d.data(),
                                   out.grad_k.data(),
                                   out.grad_v.data(),
                                   out.grad_z.data(),
                                   out.grad_b.data(),
                                   out.grad_state_in.data(),
                                   scratch.data()});
  return out;
}

// The equations as loops in float64, with the adjoint of each step from all states.
Outcome<double> exact(const Head<double>& head) {
  const auto N = static_cast<std::size_t>(head.N), T = static_cast<std::size_t>(head.T);
  const Numbers<double> row(head.r.size()), cells(head.cells());
  Outcome<double> out{row, cells, row, row, row, row, row, row, cells};
  std::vector<Numbers<double>> states{head.state_in};
  std::vector<Numbers<double>> removed;  // S z
  for (std::size_t t = 0; t < T; ++t) {
    const std::size_t at = t * N;
    auto state = states.back();
    Numbers<double> sa(N);
    for (std::size_t i = 0; i < N; ++i) {
      for (std::size_t j = 0; j < N; ++j) sa[i] += state[i * N + j] * head.z[at + j];
      for (std::size_t j = 0; j < N; ++j) {
        double& s = state[i * N + j];
        s = s * head.d[at + j] + sa[i] * head.b[at + j] + head.v[at + i] * head.k[at + j];
        out.y[at + i] += s * head.r[at + j];
      }
    }
    states.push_back(state), removed.push_back(sa);
  }
  out.state_out = states.back();
  auto ds = head.grad_state_out;
  for (std::size_t t = T; t-- > 0;) {
    const std::size_t at = t * N;
    for (std::size_t i = 0; i < N; ++i) {
      double dsa = 0;
      for (std::size_t j = 0; j < N; ++j) {
        double& g = ds[i * N + j];
        g += head.grad_y[at + i] * head.r[at + j];
        out.grad_r[at + j] += states[t + 1][i * N + j] * head.grad_y[at + i];
        out.grad_d[at + j] += g * states[t][i * N + j];
        out.grad_k[at + j] += g * head.v[at + i];
        out.grad_v[at + i] += g * head.k[at + j];
        out.grad_b[at + j] += g * removed[t][i];
        dsa += g * head.b[at + j];
      }
      for (std::size_t j = 0; j < N; ++j) {
        out.grad_z[at + j] += states[t][i * N + j] * dsa;
        double& g = ds[i * N + j];
        g = g * head.d[at + j] + dsa * head.z[at + j];
      }
    }
  }
  out.grad_state_in = ds;
  return out;
}

template <class Real>
void expect_near_in_norm(const Numbers<Real>& found, const Numbers<double>& wanted, double share,
                         const std::string& what) {
  ASSERT_EQ(found.size(), wanted.size()) << what;
  double error = 0, size = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double away = static_cast<double>(found[i]) - wanted[i];
    error += away * away, size += wanted[i] * wanted[i];
  }
  EXPECT_LE(std::sqrt(error / size), share) << what;  // false for NaN
}

template <class Real>
void expect_right(const Head<Real>& head, double share, const std::string& what) {
  const auto found = run(head);
  const auto wanted = exact(converted<double>(head));
  const auto all = all_of(found);
  const auto right = all_of(wanted);
  for (std::size_t i = 0; i < all.size(); ++i)
    expect_near_in_norm(*all[i], *right[i], share,
                        what + ", " + kNames[i] + " at T = " + std::to_string(head.T) +
                            ", N = " + std::to_string(head.N));
}

TEST(Wkv7Kernel, EqualsAFloat64LoopInValuesAndGradientsOnEveryInstructionSet) {
  test::for_each_instruction_set([](const std::string& set) {
    for (const std::int64_t N : {8, 16, 24, 32, 64, 128})
      for (const std::int64_t T : {1, 2, 15, 16, 17, 50})
        expect_right(make_head<float>(T, N), 2e-6, set);
    expect_right(make_head<float>(17, 72), 2e-6, set);
    expect_right(make_head<float>(33, 256), 2e-6, set);
    expect_right(make_head<float>(500, 64), 2e-6, set);
    expect_right(make_head<float>(500, 64, /*decay=*/9), 2e-6, set + ", low decay");
    expect_right(make_head<float>(500, 64, /*decay=*/-9), 2e-6, set + ", high decay");
    for (const std::int64_t N : {8, 24, 64}) expect_right(make_head<double>(37, N), 1e-14, set);
  });
}

TEST(Wkv7KernelSlow, EqualsAFloat64LoopOnLongSequences) {
  for (const double decay : {9.0, 0.0, -9.0})
    expect_right(make_head<float>(4097, 64, decay), 5e-6, "decay " + std::to_string(decay));
}

TEST(Wkv7Kernel, HasTheGradientsOfFiniteDifferences) {
  const auto head = make_head<double>(18, 8);
  const auto found = run(head);
  const auto loss_of = [](const Head<double>& one) {
    const auto out = run(one);
    double loss = 0;
    for (std::size_t i = 0; i < out.y.size(); ++i) loss += out.y[i] * one.grad_y[i];
    for (std::size_t i = 0; i < out.state_out.size(); ++i)
      loss += out.state_out[i] * one.grad_state_out[i];
    return loss;
  };
  using Member = Numbers<double> Head<double>::*;
  const std::pair<Member, const Numbers<double>*> all[] = {
      {&Head<double>::r, &found.grad_r},
      {&Head<double>::d, &found.grad_d},
      {&Head<double>::k, &found.grad_k},
      {&Head<double>::v, &found.grad_v},
      {&Head<double>::z, &found.grad_z},
      {&Head<double>::b, &found.grad_b},
      {&Head<double>::state_in, &found.grad_state_in}};
  constexpr double kStep = 1e-5;
  for (const auto& [member, grads] : all)
    for (std::size_t i = 0; i < grads->size(); i += 3) {
      auto up = head, down = head;
      (up.*member)[i] += kStep;
      (down.*member)[i] -= kStep;
      EXPECT_NEAR((*grads)[i], (loss_of(up) - loss_of(down)) / (2 * kStep), 1e-7);
    }
}

// Values and gradients of every head of a golden file, through rows of stride H N.
void expect_golden(const std::filesystem::path& path) {
  SCOPED_TRACE(path);
  const auto file = read_safetensors(path);
  const auto read = [&](const std::string& name) { return to_float32(file.at(name)); };
  const auto shape = file.at("r").shape;
  const std::int64_t B = shape[0], T = shape[1], H = shape[2], N = shape[3], stride = H * N;
  const auto r = read("r"), w = read("w"), k = read("k"), v = read("v"), z = read("z"),
             b = read("b"), state_in = read("state_in"), grad_y = read("grad_y"),
             grad_state_out = read("grad_state_out");
  Numbers<float> d(w.size()), y(w), dr(w), dd(w), dk(w), dv(w), dz(w), db(w);
  const auto sigmoid = [](float x) { return 1 / (1 + std::exp(-static_cast<double>(x))); };
  for (std::size_t i = 0; i < w.size(); ++i)
    d[i] = static_cast<float>(std::exp(-kDecayScale * sigmoid(w[i])));
  Numbers<float> state_out(state_in), grad_state_in(state_in);
  Numbers<float> kept(static_cast<std::size_t>(wkv7_segments(T) * N * N));
  Numbers<float> scratch(static_cast<std::size_t>(wkv7_backward_scratch(N)));
  for (std::int64_t one = 0; one < B * H; ++one) {
    const std::int64_t at = one / H * T * stride + one % H * N, s = one * N * N;
    wkv7_forward(Wkv7Forward<float>{
        T, N, stride, r.data() + at, d.data() + at, k.data() + at, v.data() + at, z.data() + at,
        b.data() + at, state_in.data() + s, state_out.data() + s, y.data() + at, kept.data()});
    wkv7_backward(Wkv7Backward<float>{T,
                                      N,
                                      stride,
                                      r.data() + at,
                                      d.data() + at,
                                      k.data() + at,
                                      v.data() + at,
                                      z.data() + at,
                                      b.data() + at,
                                      kept.data(),
                                      grad_y.data() + at,
                                      grad_state_out.data() + s,
                                      dr.data() + at,
                                      dd.data() + at,
                                      dk.data() + at,
                                      dv.data() + at,
                                      dz.data() + at,
                                      db.data() + at,
                                      grad_state_in.data() + s,
                                      scratch.data()});
  }
  Numbers<float> dw(dd);
  for (std::size_t i = 0; i < dw.size(); ++i)
    dw[i] *= static_cast<float>(-kDecayScale * static_cast<double>(d[i]) * sigmoid(w[i]) *
                                sigmoid(-w[i]));
  const auto expect_close = [&](const Numbers<float>& found, const std::string& name,
                                float relative, float absolute) {
    const auto wanted = read(name);
    ASSERT_EQ(found.size(), wanted.size());
    float worst = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      const float share =
          std::abs(found[i] - wanted[i]) / (absolute + relative * std::abs(wanted[i]));
      worst = share <= worst ? worst : share;
    }
    EXPECT_LE(worst, 1) << name;
  };
  expect_close(y, "y", 1e-4f, 1e-4f);
  expect_close(state_out, "state_out", 1e-4f, 1e-4f);
  const std::pair<const char*, const Numbers<float>*> gradients[] = {
      {"grad_r", &dr},
      {"grad_w", &dw},
      {"grad_k", &dk},
      {"grad_v", &dv},
      {"grad_z", &dz},
      {"grad_b", &db},
      {"grad_state_in", &grad_state_in}};
  for (const auto& [name, found] : gradients) expect_close(*found, name, 1e-3f, 5e-5f);
}

TEST(Wkv7Kernel, EqualsGoldenNumbersOnEveryInstructionSet) {
  test::for_each_instruction_set([](const std::string& set) {
    SCOPED_TRACE(set);
    RWKVX_FOR_EACH_GOLDEN("rwkv7") {
      int files = 0;
      for (const auto& entry : std::filesystem::directory_iterator(golden))
        if (entry.path().filename().string().starts_with("wkv7_op")) {
          expect_golden(entry.path());
          ++files;
        }
      EXPECT_GE(files, 3);
    }
  });
}

TEST(Wkv7Kernel, CuttingTheSequenceChangesNoBit) {
  test::for_each_instruction_set([](const std::string& set) {
    for (const std::int64_t N : {8, 40, 64}) {
      const auto head = make_head<float>(50, N);
      const auto whole = run(head);
      for (const std::int64_t piece : {1, 2, 3, 15, 16, 17, 49}) {
        auto state = head.state_in;
        Numbers<float> y(whole.y.size());
        for (std::int64_t t = 0; t < head.T; t += piece) {
          auto call = forward_call(head, t);
          call.steps = std::min(piece, head.T - t);
          call.state_in = call.state_out = state.data();
          call.y = y.data() + t * N;
          wkv7_forward(call);
        }
        EXPECT_EQ(y, whole.y) << set << ", N " << N << ", pieces of " << piece;
        EXPECT_EQ(state, whole.state_out) << set << ", N " << N << ", pieces of " << piece;
      }
    }
  });
}

TEST(Wkv7Kernel, PiecesOfASegmentWithTheirStatesGiveTheSameGradients) {
  const auto head = make_head<float>(50, 64);
  const auto whole = run(head);
  const auto cells = head.cells();
  Numbers<float> kept(4 * cells), scratch(static_cast<std::size_t>(wkv7_backward_scratch(64)));
  Numbers<float> y(whole.y), state(cells);
  auto forward = forward_call(head);
  forward.y = y.data(), forward.kept = kept.data();  // without state_out
  wkv7_forward(forward);
  EXPECT_EQ(y, whole.y);
  auto out = whole;
  for (auto* grads : {&out.grad_r, &out.grad_d, &out.grad_k, &out.grad_v, &out.grad_z, &out.grad_b})
    std::fill(grads->begin(), grads->end(), NAN);
  auto adjoint = head.grad_state_out;
  for (std::int64_t segment = 3; segment >= 0; --segment) {
    const std::int64_t from = segment * kWkv7Segment, at = from * 64;
    wkv7_backward(Wkv7Backward<float>{std::min(kWkv7Segment, head.T - from),
                                      64,
                                      64,
                                      head.r.data() + at,
                                      head.d.data() + at,
                                      head.k.data() + at,
                                      head.v.data() + at,
                                      head.z.data() + at,
                                      head.b.data() + at,
                                      kept.data() + segment * 64 * 64,
                                      head.grad_y.data() + at,
                                      adjoint.data(),
                                      out.grad_r.data() + at,
                                      out.grad_d.data() + at,
                                      out.grad_k.data() + at,
                                      out.grad_v.data() + at,
                                      out.grad_z.data() + at,
                                      out.grad_b.data() + at,
                                      adjoint.data(),
                                      scratch.data()});
  }
  out.grad_state_in = adjoint;
  for (std::size_t i = 0; i < all_of(out).size(); ++i)
    EXPECT_EQ(*all_of(out)[i], *all_of(whole)[i]) << kNames[i];
}

TEST(Wkv7Kernel, ANullStateIsZeros) {
  auto head = make_head<float>(20, 16);
  std::fill(head.state_in.begin(), head.state_in.end(), 0.0f);
  const auto zeros = run(head);
  Numbers<float> y(zeros.y.size());
  auto call = forward_call(head);
  call.state_in = nullptr, call.y = y.data();
  wkv7_forward(call);
  EXPECT_EQ(y, zeros.y);
}

TEST(Wkv7Kernel, NaNGivesNaNFromItsTokenOn) {
  using Member = Numbers<float> Head<float>::*;
  test::for_each_instruction_set([](const std::string& set) {
    for (const std::int64_t N : {16, 64})
      for (const Member member : {&Head<float>::r, &Head<float>::d, &Head<float>::k,
                                  &Head<float>::v, &Head<float>::z, &Head<float>::b}) {
        auto head = make_head<float>(20, N);
        const std::int64_t at = 7 * N + 5;
        (head.*member)[static_cast<std::size_t>(at)] = NAN;
        const auto out = run(head);
        for (std::int64_t i = 0; i < head.T * N; ++i) {
          const bool state = i >= 7 * N && (member != &Head<float>::v || i % N == 5);
          const bool has = member == &Head<float>::r ? i / N == 7 : state;
          EXPECT_EQ(std::isnan(out.y[static_cast<std::size_t>(i)]), has) << set << ", " << i;
        }
      }
  });
}

TEST(Wkv7Kernel, HugeAndTinyNumbersAreThoseOfTheFloat64Loop) {
  test::for_each_instruction_set([](const std::string& set) {
    for (const float scale : {1e-30f, 1e-18f, 1e18f, 1e30f}) {
      auto head = make_head<float>(20, 64);  // the values carry the scale, all else is linear
      for (float& x : head.v) x *= scale;
      for (float& x : head.state_in) x *= scale;
      expect_right(head, 2e-6, set + ", values of " + std::to_string(scale));
    }
  });
}

}  // namespace
}  // namespace rwkvx
