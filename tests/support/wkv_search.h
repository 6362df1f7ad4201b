// Random search for WKV calls whose results are wrong: extreme keys, decays, bonuses, receptances
// and states, cut into two calls at a random place. Results are held to the sums over all pairs of
// tokens in long double, each with the tolerance that its own terms deserve. A failing case is
// shrunk before it is shown.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <iomanip>
#include <iostream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace rwkvx::test {

// One channel of one sequence. Numbers are float32 values.
struct WkvCase {
  double w = 0, u = 0;
  std::vector<double> k, v, r, grad_y;  // r may be empty
  bool started = false;                 // whether p, q, o is a state of earlier tokens
  double p = 0, q = 0, o = -1e30;
  std::size_t cut = 0;  // tokens of the first of two calls; 0: one call

  std::size_t size() const { return k.size(); }
};

struct WkvOutcome {
  std::vector<double> y, grad_k, grad_v, grad_r;
  double ratio = 0, log_q = 0;  // p / q and o + log q of the last state
  double grad_w = 0, grad_u = 0, grad_p = 0, grad_q = 0;
};

struct WkvTolerance {
  double relative;          // of a sum's terms
  double per_exponent = 0;  // more, for each token and each unit of the exponents' size
  bool gradients = true;
  double exact_keys = 1e6;  // a larger key is known to a few units in its last place only
};

// What is right, and in `room` the size of the terms that were summed for it.
inline WkvOutcome exact_wkv(const WkvCase& in, WkvOutcome& room) {
  using Real = long double;
  const std::size_t T = in.size();
  WkvOutcome out;
  for (auto* one : {&out, &room}) {
    one->y.assign(T, 0), one->grad_k.assign(T, 0), one->grad_v.assign(T, 0);
    one->grad_r.assign(T, 0);
    one->grad_w = one->grad_u = one->grad_p = one->grad_q = 0;
  }
  const auto times = [](Real count, Real w) { return count == 0 ? Real(0) : count * w; };
  const Real state_v = in.started ? Real(in.p) / Real(in.q) : 0;
  const auto grad_y = [&](std::size_t t) { return in.grad_y.empty() ? 0.0 : in.grad_y[t]; };
  std::vector<Real> weight(T + 1);
  for (std::size_t t = 0; t <= T; ++t) {  // T: the state, as a token without a key would see it
    Real most = -INFINITY;
    const auto put = [&](std::size_t i, Real value) {
      weight[i] = value, most = std::max(most, value);
    };
    for (std::size_t i = 0; i < t; ++i)
      put(i, Real(in.k[i]) + times(static_cast<Real>(t - 1 - i), in.w));
    if (t < T) put(t, Real(in.u) + Real(in.k[t]));
    const std::size_t past = t < T ? t + 1 : T;
    const Real state = in.started
                           ? Real(in.o) + std::log(Real(in.q)) + times(static_cast<Real>(t), in.w)
                           : -INFINITY;
    most = std::max(most, state);
    Real total = 0, y = 0, size = 0;
    for (std::size_t i = 0; i < past; ++i) {
      weight[i] = std::exp(weight[i] - most);
      total += weight[i], y += weight[i] * Real(in.v[i]),
          size += weight[i] * std::abs(Real(in.v[i]));
    }
    const Real of_state = std::exp(state - most);
    total += of_state, y += of_state * state_v, size += of_state * std::abs(state_v);
    y /= total, size /= total;
    if (t == T) {
      out.ratio = static_cast<double>(y), room.ratio = static_cast<double>(size);
      out.log_q = static_cast<double>(most + std::log(total)), room.log_q = 1;
      break;
    }
    const Real open = in.r.empty() ? 1 : 1 / (1 + std::exp(-Real(in.r[t])));
    const Real closed = in.r.empty() ? 0 : 1 / (1 + std::exp(Real(in.r[t])));
    out.y[t] = static_cast<double>(y * open), room.y[t] = static_cast<double>(size * open);
    const Real gy = grad_y(t), g = gy * open, g_size = std::abs(g);
    out.grad_r[t] = static_cast<double>(g * y * closed);
    // 1 - sigmoid is a difference of numbers near 1.
    room.grad_r[t] = static_cast<double>(g_size * size);
    const auto add = [](double& sum, double& terms, Real value, Real term) {
      sum += static_cast<double>(value), terms += static_cast<double>(term);
    };
    for (std::size_t i = 0; i <= t; ++i) {
      const Real share = weight[i] / total, away = Real(in.v[i]) - y;
      const Real far = std::abs(Real(in.v[i])) + size;
      add(out.grad_v[i], room.grad_v[i], g * share, g_size * share);
      add(out.grad_k[i], room.grad_k[i], g * share * away, g_size * share * far);
      if (i == t) {
        add(out.grad_u, room.grad_u, g * share * away, g_size * share * far);
      } else {
        const Real lag = static_cast<Real>(t - 1 - i);
        add(out.grad_w, room.grad_w, g * share * lag * away, g_size * share * lag * far);
      }
    }
    if (in.started) {
      const Real share = of_state / total, lag = static_cast<Real>(t);
      const Real far = std::abs(state_v) + size;
      add(out.grad_w, room.grad_w, g * share * lag * (state_v - y), g_size * share * lag * far);
      add(out.grad_p, room.grad_p, g * share / in.q, g_size * share / in.q);
      add(out.grad_q, room.grad_q, -g * share * y / in.q, g_size * share * size / in.q);
    }
  }
  return out;
}

struct WkvVerdict {
  double worst = 0;  // largest error in units of the tolerance
  std::string what;
};

inline WkvVerdict judge_wkv(const WkvCase& in, const WkvOutcome& found,
                            const WkvTolerance& allowed) {
  WkvOutcome room;
  const WkvOutcome wanted = exact_wkv(in, room);
  double key = std::abs(in.started ? in.o : 0.0) + std::abs(in.u), v = 0, g = 0;
  if (std::isfinite(in.w)) key += static_cast<double>(in.size()) * std::min(-in.w, 100.0);
  for (const double one : in.k) key = std::max(key, std::abs(one));
  for (const double one : in.v) v = std::max(v, std::abs(one));
  if (in.started) v = std::max(v, std::abs(in.p / in.q));
  for (const double one : in.grad_y) g = std::max(g, std::abs(one));
  const double doubt = key > allowed.exact_keys ? 1e-6 * key : 0;
  // Large bonuses and decays are exponents in their own right.
  const double large = std::max(std::abs(in.u) - 20, 0.0) + std::clamp(-20 - in.w, 0.0, 300.0);
  const double share = allowed.relative * (1 + large / 30) +
                       allowed.per_exponent * key * static_cast<double>(in.size()) +
                       std::expm1(std::min(doubt, 1.0));
  // Of keys whose last place is worth more than a power of e only this is known: all is finite, and
  // averages lie between what they average.
  const bool loose = doubt > 1;
  WkvVerdict verdict;
  const auto hold = [&](const std::string& name, double is, double should, double size,
                        double smallest) {
    double error = std::abs(is - should) / (share * size + smallest);
    if (loose) error = std::isfinite(is) ? 0 : INFINITY;
    if (!std::isfinite(is)) error = INFINITY;
    if (!(error <= verdict.worst)) {
      std::ostringstream text;
      text << std::setprecision(9) << name << " is " << is << " instead of " << should;
      verdict = {std::isnan(error) ? INFINITY : error, text.str()};
    }
  };
  const double none = 1e-36, tiny_y = 1e-30 * v + none, tiny_g = 1e-30 * g + none;
  for (std::size_t t = 0; t < in.size(); ++t) {
    const auto at = "[" + std::to_string(t) + "]";
    hold("y" + at, found.y[t], wanted.y[t], room.y[t], tiny_y);
    if (loose && !(std::abs(found.y[t]) <= v * (1 + 1e-5)))
      hold("y" + at, NAN, wanted.y[t], 0, tiny_y);
    if (!allowed.gradients) continue;
    hold("grad k" + at, found.grad_k[t], wanted.grad_k[t], room.grad_k[t], tiny_g * (v + 1));
    hold("grad v" + at, found.grad_v[t], wanted.grad_v[t], room.grad_v[t], tiny_g);
    if (!in.r.empty())
      hold("grad r" + at, found.grad_r[t], wanted.grad_r[t], room.grad_r[t], tiny_g * (v + 1));
  }
  hold("state's p / q", found.ratio, wanted.ratio, room.ratio, tiny_y);
  if (doubt == 0)
    hold("state's log q", found.log_q, wanted.log_q, 1 + std::abs(wanted.log_q) * 1e-7 / share,
         none);
  if (!allowed.gradients) return verdict;
  hold("grad w", found.grad_w, wanted.grad_w, room.grad_w, tiny_g * (v + 1));
  hold("grad u", found.grad_u, wanted.grad_u, room.grad_u, tiny_g * (v + 1));
  if (in.started) {
    hold("grad p", found.grad_p, wanted.grad_p, room.grad_p, tiny_g / in.q);
    hold("grad q", found.grad_q, wanted.grad_q, room.grad_q, tiny_g * (v + 1) / in.q);
  }
  return verdict;
}

// `shape` gives the number of tokens, the cut and whether there is a receptance.
inline WkvCase random_wkv(std::mt19937_64& random, const WkvCase& shape) {
  const auto uniform = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  const auto pick = [&](int count) {
    return std::uniform_int_distribution<int>(0, count - 1)(random);
  };
  // GCC 12 leaves out two such conversions side by side unless they go through memory.
  const auto rounded = [](double x) {
    const volatile float narrow = static_cast<float>(x);
    return static_cast<double>(narrow);
  };
  WkvCase out = shape;
  switch (pick(9)) {
    case 0:
      out.w = 0;
      break;
    case 1:
      out.w = -std::exp(uniform(-20, -8));
      break;
    case 2:
      out.w = -uniform(8, 30);
      break;
    case 3:
      out.w = -uniform(30, 110);
      break;
    case 4:
      out.w = -std::exp(uniform(4, 60));
      break;
    case 5:
      out.w = pick(2) == 0 ? -INFINITY : -uniform(700, 800);
      break;
    default:
      out.w = -std::exp(uniform(-8, 3));
      break;
  }
  switch (pick(8)) {
    case 0:
      out.u = 0;
      break;
    case 1:
      out.u = uniform(-60, 60);
      break;
    case 2:
      out.u = uniform(-300, 300);
      break;
    case 3:
      out.u = (pick(2) == 0 ? -1 : 1) * std::exp(uniform(3, 12));
      break;
    default:
      out.u = uniform(-2, 2);
      break;
  }
  const double scales[] = {0.5, 2, 9, 30, 60, 90, 130, 200, 1000, 1e5, 1e6};
  double scale = scales[pick(11)];
  if (pick(25) == 0) scale = std::pow(10, uniform(6, 29));
  const double middle = pick(3) == 0 ? uniform(-scale, scale) : 0;
  const int form = pick(6);
  const std::size_t T = shape.size();
  for (std::size_t t = 0; t < T; ++t) {
    double k = uniform(-scale, scale);
    if (form == 1) k = pick(4) == 0 ? k : uniform(-1, 1);                         // a few are large
    if (form == 2) k = scale * (1 - 2 * double(t) / double(T)) + uniform(-1, 1);  // falls
    if (form == 3) k = scale * (2 * double(t) / double(T) - 1) + uniform(-1, 1);  // rises
    if (form == 4) k = pick(2) == 0 ? scale : -scale;
    out.k[t] = rounded(std::clamp(k + middle, -2e29, 2e29));
  }
  const double v_scale = pick(6) == 0 ? std::pow(10, uniform(-20, 15)) : 1;
  const double r_scale = pick(3) == 0 ? std::pow(10, uniform(0, 5)) : 3;
  const double g_scale = pick(6) == 0 ? std::pow(10, uniform(-15, 10)) : 1;
  out.grad_y.resize(T);
  for (std::size_t t = 0; t < T; ++t) {
    out.v[t] = rounded(v_scale * uniform(-1, 1));
    out.grad_y[t] = rounded(pick(5) == 0 ? 0 : g_scale * uniform(-1, 1));
    if (!out.r.empty()) out.r[t] = rounded(r_scale * uniform(-1, 1));
  }
  out.started = pick(2) == 0;
  if (out.started) {
    out.q = rounded(std::exp(uniform(-3, 6)));
    out.p = rounded(out.q * v_scale * uniform(-1, 1));
    out.o = rounded(std::clamp(uniform(-scale, scale) + middle, -1e28, 1e28));
  }
  out.w = rounded(out.w), out.u = rounded(out.u);
  return out;
}

using WkvRunner = std::function<std::vector<WkvOutcome>(const std::vector<WkvCase>&)>;

// The smallest case that still fails alone: fewer tokens, then rounder numbers.
inline WkvCase shrink_wkv(WkvCase found, const WkvRunner& run, const WkvTolerance& allowed) {
  const auto fails = [&](const WkvCase& one) {
    return one.size() > 0 && !(judge_wkv(one, run({one})[0], allowed).worst <= 1);
  };
  const auto attempt = [&](const std::function<void(WkvCase&)>& change) {
    WkvCase next = found;
    change(next);
    if (!fails(next)) return false;
    found = next;
    return true;
  };
  for (bool smaller = true; smaller;) {
    smaller = false;
    for (std::size_t t = found.size(); t-- > 0;)
      smaller |= attempt([&](WkvCase& one) {
        for (auto* row : {&one.k, &one.v, &one.r, &one.grad_y})
          if (!row->empty()) row->erase(row->begin() + static_cast<std::ptrdiff_t>(t));
        if (one.cut > t) --one.cut;
        if (one.cut >= one.size()) one.cut = 0;
      });
  }
  attempt([](WkvCase& one) { one.cut = 0; });
  attempt([](WkvCase& one) { one.r.clear(); });
  attempt([](WkvCase& one) { one.started = false, one.p = one.q = 0, one.o = -1e30; });
  const auto simplify = [&](const std::function<double&(WkvCase&)>& number) {
    for (const double digits : {1., 10., 100.}) {
      WkvCase copy = found;
      const double x = number(copy);
      for (const double simple : {0.0, 1.0, std::round(x * digits) / digits}) {
        if (simple == x) return;
        if (attempt([&](WkvCase& one) { number(one) = static_cast<float>(simple); })) return;
      }
    }
  };
  simplify([](WkvCase& one) -> double& { return one.w; });
  simplify([](WkvCase& one) -> double& { return one.u; });
  for (std::size_t t = 0; t < found.size(); ++t)
    for (auto row : {&WkvCase::k, &WkvCase::v, &WkvCase::r, &WkvCase::grad_y})
      if (!(found.*row).empty()) simplify([&](WkvCase& one) -> double& { return (one.*row)[t]; });
  return found;
}

inline std::string text_of(const WkvCase& one) {
  std::ostringstream text;
  text << std::setprecision(12) << "w " << one.w << " u " << one.u << " cut " << one.cut;
  if (one.started) text << " state " << one.p << ' ' << one.q << ' ' << one.o;
  for (const auto& [name, row] :
       {std::pair{"k", &one.k}, {"v", &one.v}, {"r", &one.r}, {"gy", &one.grad_y}}) {
    text << "\n  " << name;
    for (const double x : *row) text << ' ' << x;
  }
  return text.str();
}

// Seconds that a search takes: a short one, or what RWKVX_SEARCH_SECONDS says for a long one.
inline double search_seconds(double short_one) {
  const char* text = std::getenv("RWKVX_SEARCH_SECONDS");
  return text == nullptr ? short_one : std::atof(text);
}

// Groups of cases that differ in all but their shape, as the channels of one call.
inline void search_wkv(const std::string& name, const WkvRunner& run, const WkvTolerance& allowed,
                       double seconds, bool receptance_always = false) {
  const char* seed_text = std::getenv("RWKVX_SEARCH_SEED");
  std::mt19937_64 random(seed_text == nullptr ? 1 : std::strtoull(seed_text, nullptr, 10));
  const auto pick = [&](std::size_t count) {
    return std::uniform_int_distribution<std::size_t>(0, count - 1)(random);
  };
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  std::size_t trials = 0;
  double worst = 0;
  while (std::chrono::duration<double>(Clock::now() - start).count() < seconds) {
    WkvCase shape;
    const std::size_t T = pick(4) == 0 ? 1 + pick(70) : 1 + pick(8);
    shape.k.resize(T), shape.v.resize(T);
    if (receptance_always || pick(2) == 0) shape.r.resize(T);
    if (pick(2) == 0) shape.cut = pick(T);
    std::vector<WkvCase> cases(1 + pick(20), shape);
    for (auto& one : cases) one = random_wkv(random, shape);
    const auto found = run(cases);
    for (std::size_t i = 0; i < cases.size(); ++i, ++trials) {
      const auto verdict = judge_wkv(cases[i], found[i], allowed);
      if (verdict.worst <= 1) {
        worst = std::max(worst, verdict.worst);
        continue;
      }
      const auto least = shrink_wkv(cases[i], run, allowed);
      const auto alone = judge_wkv(least, run({least})[0], allowed);
      FAIL() << name << ", trial " << trials << ": " << verdict.what << " (" << verdict.worst
             << " tolerances)\nshrunk: " << alone.what << " (" << alone.worst << " tolerances)\n"
             << text_of(least);
    }
  }
  std::cout << std::left << std::setw(34) << name << std::right << std::setw(10) << trials
            << " trials, largest error " << std::setprecision(2) << worst << " tolerances\n";
}

}  // namespace rwkvx::test
