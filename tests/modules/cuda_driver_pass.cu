// The kernels of the fused training passes beside WKV and the shift; see cuda_driver.cu.
#include <cmath>
#include <cstdint>

#include "cores/rwkv7/cuda/head.h"
#include "cuda_arrays.h"
#include "rwkvx/ops/cuda/adamw.h"
#include "rwkvx/ops/cuda/cross_entropy.h"
#include "rwkvx/ops/cuda/draw_token.h"
#include "rwkvx/ops/cuda/elementwise.h"
#include "rwkvx/ops/cuda/integer_product.h"

namespace rwkvx::cuda {

// A token and its probability as one number.
inline float load(const DrawResult* x, std::int64_t i) {
  return static_cast<float>(static_cast<double>(x[i].token) + x[i].logprob);
}

namespace driver {
namespace {

template <class Make>
void run_everywhere(std::int64_t count, const Make& make) {
  const auto body = make(Side::kProcessor);
  for (std::int64_t i = 0; i < count; ++i) body.at(i);
  using Step = decltype(make(Side::kProcessor));
  if (gpu) start(Elementwise<Step>{make(Side::kGpu), count});
}

template <class Value>
void check_elementwise(std::int64_t count) {
  std::printf("elementwise steps in %s, %lld numbers\n", type_name<Value>(),
              static_cast<long long>(count));
  Array<float> x(count, -3, 3), dy(count, -3, 3), y(count), gated(count);
  Array<Value> o(count, -3, 3), r(count, -30, 30), v(count, -3, 3), dr(count), dv(count);
  run_everywhere(count, [&](Side s) { return Residual<Value>{x.at(s), o.at(s), y.at(s)}; });
  check("residual", y);
  run_everywhere(count, [&](Side s) {
    return GatedResidual<Value>{x.at(s), r.at(s), v.at(s), gated.at(s)};
  });
  check("gated residual", gated);
  run_everywhere(count, [&](Side s) {
    return GatedResidualAdjoint<Value>{dy.at(s), r.at(s), v.at(s), dr.at(s), dv.at(s)};
  });
  check("gated residual: grad r", dr), check("gated residual: grad v", dv);
  Array<Value> square(count, -3, 3), dsquare(count, -3, 3), tangent(count, -3, 3),
      dtangent(count, -3, 3), logistic(count, -3, 3), dlogistic(count, -3, 3);
  run_everywhere(count, [&](Side s) { return ReluSquare<Value>{square.at(s)}; });
  run_everywhere(count, [&](Side s) { return Tanh<Value>{tangent.at(s)}; });
  run_everywhere(count, [&](Side s) { return Sigmoid<Value>{logistic.at(s)}; });
  run_everywhere(count, [&](Side s) {
    return ReluSquareAdjoint<Value>{square.at(s), dsquare.at(s)};
  });
  run_everywhere(count, [&](Side s) { return TanhAdjoint<Value>{tangent.at(s), dtangent.at(s)}; });
  run_everywhere(count, [&](Side s) {
    return SigmoidAdjoint<Value>{logistic.at(s), dlogistic.at(s)};
  });
  check("squared ReLU", square), check("its gradient", dsquare);
  check("tanh", tangent), check("its gradient", dtangent);
  check("sigmoid", logistic), check("its gradient", dlogistic);
  run_everywhere(count, [&](Side s) { return Dropout::of(y.at(s), 5, 0x123456789abcdefu, 0.3f); });
  check("dropout", y);
}

void check_embedding(std::int64_t rows, std::int64_t vocab, std::int64_t C) {
  std::printf("gradient of an embedding, %lld x %lld rows of %lld\n", static_cast<long long>(rows),
              static_cast<long long>(vocab), static_cast<long long>(C));
  Array<std::int64_t> ids(rows), order(rows);
  for (std::int64_t i = 0; i < rows; ++i) {
    ids.set(i, static_cast<float>(i * vocab / rows));
    order.set(i, static_cast<float>(rows - 1 - i));
  }
  ids.upload(), order.upload();
  Array<float> gradients(rows * C, -1, 1), to(vocab * C, -1, 1);
  run_everywhere(rows * C, [&](Side s) {
    return EmbeddingGradient{ids.at(s), order.at(s), gradients.at(s), to.at(s), rows, C};
  });
  check("its sum", to);
}

template <class Value>
void check_unpacking(std::int64_t rows, std::int64_t N) {
  std::printf("int8 weights as floats in %s, %lld x %lld\n", type_name<Value>(),
              static_cast<long long>(rows), static_cast<long long>(N));
  std::vector<std::int8_t> integers;
  for (std::int64_t i = 0; i < rows * N; ++i)
    integers.push_back(static_cast<std::int8_t>(i * 71 % 255 - 127));
  std::vector<std::int32_t> one_each{0}, places;
  for (std::int32_t i = 0; i < rows; ++i) {
    one_each.push_back(i + 1);
    places.push_back(i * 5 % static_cast<std::int32_t>(N));
  }
  Array<std::int8_t> weights(rows * N);
  Array<float> scales(rows, 0.01f, 0.1f), column_scales(N, 0.5f, 2), wide(rows, 3, 9);
  Array<std::int32_t> first(rows + 1), columns(rows);
  weights.set_all(integers), first.set_all(one_each), columns.set_all(places);
  Array<Value> to(rows * N);
  run_everywhere(rows * N, [&](Side s) {
    return UnpackIntegers<Value>{weights.at(s), scales.at(s), column_scales.at(s), N, to.at(s)};
  });
  run_everywhere(rows, [&](Side s) {
    return UnpackWide<Value>{first.at(s), columns.at(s), wide.at(s), N, to.at(s)};
  });
  check("weights", to);
}

template <class Value>
void check_cross_entropy(std::int64_t rows, std::int64_t vocab, float scale) {
  const std::int64_t stride = (vocab + 63) / 64 * 64;
  std::printf("cross-entropy in %s, %lld x %lld%s\n", type_name<Value>(),
              static_cast<long long>(rows), static_cast<long long>(vocab),
              scale == 0 ? ", no gradient" : "");
  Array<Value> logits(rows * stride, -8, 8);
  Array<float> weights(rows, 0, 1);
  Array<double> losses(rows);
  Array<std::int64_t> targets(rows);
  for (std::int64_t i = 0; i < rows; ++i) targets.set(i, static_cast<float>(i * 37 % vocab));
  targets.upload();
  const auto call = [&](Side s) {
    return CrossEntropyCall<Value>{rows,          vocab, stride, logits.at(s), targets.at(s),
                                   weights.at(s), scale, 1e-4f,  losses.at(s)};
  };
  static CrossEntropyShared shared;
  for (std::int64_t row = 0; row < rows; ++row)
    cross_entropy_block(call(Side::kProcessor), row, EmulatedBlock<kCrossEntropyThreads>(), shared);
  if (gpu) start(call(Side::kGpu));
  check("losses", losses, 1e-5), check("gradients", logits);
}

void check_adamw(std::int64_t count) {
  std::printf("AdamW, %lld numbers\n", static_cast<long long>(count));
  Array<float> x(count, -1, 1), grad(count, -1, 1), m(count, -1, 1), v(count, 0, 1);
  Array<Bf16> copy(count / 3);
  Array<float> scale(1, 0.5f, 0.5f);
  // The tables of both sides name each side's copy.
  Array<AdamwPiece> tables[2] = {Array<AdamwPiece>(2), Array<AdamwPiece>(2)};
  for (const Side s : {Side::kProcessor, Side::kGpu})
    tables[s == Side::kGpu].set_all(
        {{0, count / 3, 1, 0.1f, copy.at(s)}, {count / 3, count - count / 3, 3, 0}});
  const auto call = [&](Side s) {
    AdamwCall call{};
    call.pieces = 2, call.table = tables[s == Side::kGpu].at(s), call.scale = scale.at(s);
    call.x = x.at(s), call.grad = grad.at(s), call.m = m.at(s), call.v = v.at(s);
    call.rate = 1e-2f, call.grad_scale = 0.7f, call.beta1 = 0.9f, call.beta2 = 0.99f;
    call.epsilon = 1e-8f, call.m_scale = 3, call.v_scale = 5;
    return call;
  };
  for (int piece = 0; piece < 2; ++piece)
    for (int thread = 0; thread < kAdamwThreads; ++thread)
      adamw_thread(call(Side::kProcessor), piece, thread);
  if (gpu) start(call(Side::kGpu));
  check("x", x), check("m", m), check("v", v), check("copy", copy);
}

template <class Value>
void check_integer_product(std::int64_t rows, std::int64_t outputs, std::int64_t inputs) {
  std::printf("%lld rows of %s times int8, %lld x %lld\n", static_cast<long long>(rows),
              type_name<Value>(), static_cast<long long>(outputs), static_cast<long long>(inputs));
  Array<Value> x(rows * inputs, -1, 1), y(rows * outputs);
  Array<float> scales(outputs, 0.001f, 0.01f), columns(inputs, 0.5f, 2), wide_values(2, 3, 9);
  Array<std::int8_t> weights(outputs * inputs);
  std::vector<std::int8_t> drawn;
  for (std::int64_t i = 0; i < outputs * inputs; ++i)
    drawn.push_back(static_cast<std::int8_t>(static_cast<int>(numbers() % 255) - 127));
  weights.set_all(drawn);
  // Two weights that stay floats, in one row.
  Array<std::int32_t> wide_first(outputs + 1), wide_columns(2);
  std::vector<std::int32_t> first;
  for (std::int64_t m = 0; m <= outputs; ++m) first.push_back(m > outputs / 2 ? 2 : 0);
  wide_first.set_all(first), wide_columns.set_all({0, static_cast<std::int32_t>(inputs - 1)});
  const auto call = [&](Side s) {
    return IntegerProductCall<Value>{rows,
                                     outputs,
                                     inputs,
                                     weights.at(s),
                                     scales.at(s),
                                     columns.at(s),
                                     wide_first.at(s),
                                     wide_columns.at(s),
                                     wide_values.at(s),
                                     x.at(s),
                                     y.at(s)};
  };
  const auto body = call(Side::kProcessor);
  for (std::int64_t task = 0; task < integer_product_tasks(body); ++task)
    integer_product_task(body, task, OneLane());
  if (gpu) start(call(Side::kGpu));
  check("products", y);
}

// Rows that differ in their settings; many logits are alike.
void check_draw(std::int64_t vocab) {
  const std::int64_t rows = 6, usable = vocab - 3;
  std::printf("drawing from %lld logits\n", static_cast<long long>(vocab));
  Array<float> logits(rows * vocab, -12, 12);
  for (std::int64_t i = 0; i < rows * vocab; ++i)
    logits.set(i, std::round(4 * load(logits.at(Side::kProcessor), i)) / 4);
  logits.upload();
  Array<std::int64_t> ids(4);
  Array<double> amounts(4);
  ids.set_all({1, usable - 1, 2, 5}), amounts.set_all({-INFINITY, 9.5, 1, 2.5});
  Array<DrawRow> settings(rows);
  const auto row = [](double uniform, double temperature, std::int64_t top_k, double top_p,
                      double min_p, std::int64_t lists) {
    return DrawRow{-1,  uniform, temperature, top_k,     top_p, min_p,    1.3,
                   0.2, 0.4,     0,           2 * lists, 2,     2 * lists};
  };
  settings.set_all({row(0.37, 1, 0, 1, 0, 0), row(0.91, 0.8, 40, 1, 0, 1),
                    row(0.5, 1.5, 0, 0.9, 0, 1), row(0.999, 2, 50, 0.95, 0.01, 0),
                    row(0.2, 0, 0, 1, 0, 1), row(0.6, 1, 0, 1, 0.1, 1)});
  Array<double> values(rows * usable), weights(rows * usable);
  Array<DrawResult> results(rows);
  const auto call = [&](Side s) {
    return DrawCall{rows,      vocab,         usable,       logits.at(s),  settings.at(s),
                    ids.at(s), amounts.at(s), values.at(s), weights.at(s), results.at(s)};
  };
  static DrawShared shared;
  for (std::int64_t i = 0; i < rows; ++i)
    draw_block(call(Side::kProcessor), i, EmulatedBlock<kDrawThreads>(), shared);
  if (gpu) start(call(Side::kGpu));
  check("tokens and probabilities", results, 1e-6);
}

// What lies around RWKV-7's recurrence; in the first block, or in another.
template <class Value>
void check_heads(std::int64_t rows, std::int64_t H, std::int64_t N, bool first) {
  std::printf("heads of RWKV-7 in %s, %lld of %lld channels, %lld rows%s\n", type_name<Value>(),
              static_cast<long long>(H), static_cast<long long>(N), static_cast<long long>(rows),
              first ? ", first block" : "");
  const std::int64_t C = H * N, count = rows * C;
  Array<float> w0(C, -6, 1), a0(C, -1, 1), v0(C, -1, 1), k_k(C, 0.5f, 1), k_a(C, 0.5f, 1),
      r_k(C, -0.5f, 0.5f), weight(C, 0.5f, 1.5f), bias(C, -1, 1);
  Array<Value> r(count, -1, 1), k(count, -1, 1), v(count, -1, 1), g(count, -1, 1), w(count, -1, 1),
      a(count, -1, 1), share(count, -1, 1), v_first(count, -1, 1);
  const auto inputs = [&](Side s) {
    HeadInputs<Value> in{};
    in.rows = rows, in.H = H, in.N = N;
    in.w0 = w0.at(s), in.a0 = a0.at(s), in.v0 = first ? nullptr : v0.at(s), in.k_k = k_k.at(s);
    in.k_a = k_a.at(s), in.r_k = r_k.at(s), in.norm_weight = weight.at(s);
    in.norm_bias = bias.at(s);
    in.r = r.at(s), in.k = k.at(s), in.v = v.at(s), in.g = g.at(s), in.w = w.at(s), in.a = a.at(s);
    in.share = share.at(s), in.v_first = v_first.at(s);
    return in;
  };
  const std::int64_t tasks = head_tasks(inputs(Side::kProcessor));
  const auto everywhere = [&](const auto& call, const auto& body) {
    for (std::int64_t task = 0; task < tasks; ++task) body(call(Side::kProcessor), task, OneLane());
    if (gpu) start(call(Side::kGpu));
  };
  Array<float> d(count);
  Array<Value> key(count), value(count), z(count), b(count);
  everywhere(
      [&](Side s) {
        return HeadBeforeCall<Value>{inputs(s), d.at(s), key.at(s), value.at(s), z.at(s), b.at(s)};
      },
      [](const auto& call, auto task, auto lanes) { head_before(call, task, lanes); });
  check("d", d), check("key", key), check("value", value), check("z", z), check("b", b);

  Array<Value> y(count, -1, 1), out(count), grad_out(count, -1, 1), grad_y(count), grad_g(count),
      bonus_value(count);
  Array<float> bonus(rows * H), sums(head_tiles(rows) * kHeadSums * C);
  everywhere(
      [&](Side s) {
        return HeadAfterCall<Value>{inputs(s), key.at(s), value.at(s), y.at(s), out.at(s)};
      },
      [](const auto& call, auto task, auto lanes) { head_after(call, task, lanes); });
  check("out", out);
  everywhere(
      [&](Side s) {
        return HeadAfterAdjointCall<Value>{
            inputs(s),    key.at(s),    value.at(s),       y.at(s),     grad_out.at(s),
            grad_y.at(s), grad_g.at(s), bonus_value.at(s), bonus.at(s), sums.at(s)};
      },
      [](const auto& call, auto task, auto lanes) { head_after_adjoint(call, task, lanes); });
  check("grad y", grad_y), check("grad g", grad_g), check("bonus to the value", bonus_value);
  check("grad bonus", bonus);

  Array<float> grad_d(count, -1, 1), to_v_first(count, -1, 1);
  Array<Value> grad_r(count, -1, 1), grad_key(count, -1, 1), grad_value(count, -1, 1),
      grad_z(count, -1, 1), grad_b(count, -1, 1), to_r(count), to_k(count), to_v(count),
      to_w(count), to_a(count), to_share(count, -1, 1);
  everywhere(
      [&](Side s) {
        HeadBeforeAdjointCall<Value> call{};
        call.in = inputs(s);
        call.grad_d = grad_d.at(s), call.grad_r = grad_r.at(s), call.grad_key = grad_key.at(s);
        call.grad_value = grad_value.at(s), call.grad_z = grad_z.at(s), call.grad_b = grad_b.at(s);
        call.bonus_value = bonus_value.at(s), call.bonus = bonus.at(s);
        call.to_r = to_r.at(s), call.to_k = to_k.at(s), call.to_v = to_v.at(s);
        call.to_w = to_w.at(s), call.to_a = to_a.at(s);
        call.to_share = first ? nullptr : to_share.at(s);
        call.to_v_first = to_v_first.at(s), call.sums = sums.at(s);
        return call;
      },
      [](const auto& call, auto task, auto lanes) { head_before_adjoint(call, task, lanes); });
  check("grad of r", to_r), check("of k", to_k), check("of v", to_v), check("of w", to_w);
  check("of a", to_a), check("of v_first", to_v_first), check("of the parameters", sums);
  if (!first) check("of share", to_share);
}

template <class Value>
void check_type() {
  for (const std::int64_t count : {1, 257, 10'000}) check_elementwise<Value>(count);
  for (const float scale : {0.0f, 0.3f}) {
    check_cross_entropy<Value>(3, 97, scale);
    check_cross_entropy<Value>(33, 50'277, scale);
  }
  check_integer_product<Value>(1, 1027, 768);
  check_integer_product<Value>(9, 33, 70);
  check_integer_product<Value>(16, 3, 1);
  check_unpacking<Value>(100, 77);
  for (const bool first : {false, true}) {
    check_heads<Value>(1, 3, 16, first);
    check_heads<Value>(33, 2, 64, first);
    check_heads<Value>(100, 2, 128, first);
  }
}

}  // namespace

void check_pass() {
  check_type<float>();
  check_type<Bf16>();
  check_embedding(1, 1, 5);
  check_embedding(100, 7, 96);
  check_embedding(8'192, 300, 768);
  check_adamw(20'000);
  check_draw(700);
  check_draw(65'536);
}

}  // namespace driver
}  // namespace rwkvx::cuda
