// Runs the CUDA kernels without LibTorch: the bodies on the processor, and where there is a GPU the
// kernels on it, which must agree. What is to be written holds NaN before: a kernel that writes
// nothing, or not all, is seen. scripts/check_cuda builds and runs it.
#include <type_traits>

#include "cores/rwkv4/cuda/wkv.h"
#include "cores/rwkv7/cuda/wkv.h"
#include "cores/shift/cuda/shift_mix.h"
#include "cuda_arrays.h"

namespace rwkvx::cuda::driver {
namespace {

struct WkvShape {
  std::int64_t T, C;
  bool gated = true;
  std::int64_t segment = 0, backward_segment = 0;  // 0: one segment
  float range = 90;                                // of the keys
  bool states = true;                              // whether states come in and go out
  bool in_place = false;                           // gradients over their inputs
};

// What WKV's forward and backward pass write.
template <class Value>
struct WkvOutcome {
  WkvOutcome(const WkvShape& shape, std::int64_t B)
      : y(B * shape.T * shape.C),
        gk(B * shape.T * shape.C),
        gv(B * shape.T * shape.C),
        gr(B * shape.T * shape.C),
        state(B * 3 * shape.C),
        kept(B * wkv_kept_states(shape.T) * 3 * shape.C),
        gw(B * shape.C),
        gu(B * shape.C),
        gin(B * 3 * shape.C),
        forward_workspace(
            std::max<std::int64_t>(wkv_workspace(B, shape.T, shape.C, shape.segment), 1)),
        backward_workspace(std::max<std::int64_t>(
            wkv_workspace(B, shape.T, shape.C, shape.backward_segment), 1)) {}
  Array<Value> y, gk, gv, gr;
  Array<float> state, kept, gw, gu, gin, forward_workspace, backward_workspace;
};

template <class Call>
void walk(const Call& call) {
  wkv_phases(call, [&](const auto& phase, std::int64_t threads) {
    for (std::int64_t thread = 0; thread < threads; ++thread) phase(call, thread);
  });
}

template <class Value>
void check_wkv(const WkvShape& shape) {
  const std::int64_t B = 2, T = shape.T, C = shape.C, N = B * T * C;
  const bool states = shape.states, gated = shape.gated;
  std::string title = "wkv of " + std::string(sizeof(Value) == 4 ? "float32" : "bfloat16") + ", " +
                      std::to_string(T) + " tokens" + (gated ? "" : ", no r");
  if (shape.segment > 0)
    title += ", segments of " + std::to_string(shape.segment) + " and " +
             std::to_string(shape.backward_segment) + ", keys up to " +
             std::to_string(static_cast<int>(shape.range));
  std::printf("%s%s%s\n", title.c_str(), states ? "" : ", no states",
              shape.in_place ? ", in place" : "");
  Array<float> w(C, -2, -0.01f), u(C, -1, 1), state(B * 3 * C, 0.1f, 1), gstate(B * 3 * C, -1, 1);
  for (std::int64_t c = 0; c < C; c += 5) w.set(c, -200), u.set(c, c % 2 == 0 ? 80.0f : -80.0f);
  w.upload(), u.upload();
  Array<Value> k(N, -shape.range, shape.range), v(N, -1, 1), r(N, -200, 200), gy(N, -1, 1);
  const auto forward = [&](Side s, WkvOutcome<Value>& out, std::int64_t segment) {
    return WkvForwardCall<Value>{B,
                                 T,
                                 C,
                                 w.at(s),
                                 u.at(s),
                                 k.at(s),
                                 v.at(s),
                                 gated ? r.at(s) : nullptr,
                                 out.y.at(s),
                                 states ? state.at(s) : nullptr,
                                 states ? out.state.at(s) : nullptr,
                                 out.kept.at(s),
                                 segment,
                                 segment > 0 ? out.forward_workspace.at(s) : nullptr};
  };
  const auto backward = [&](Side s, WkvOutcome<Value>& out, std::int64_t segment, bool in_place) {
    return WkvBackwardCall<Value>{B,
                                  T,
                                  C,
                                  w.at(s),
                                  u.at(s),
                                  in_place ? out.gk.at(s) : k.at(s),
                                  in_place ? out.gv.at(s) : v.at(s),
                                  !gated     ? nullptr
                                  : in_place ? out.gr.at(s)
                                             : r.at(s),
                                  out.kept.at(s),
                                  states ? state.at(s) : nullptr,
                                  states ? out.state.at(s) : nullptr,
                                  gy.at(s),
                                  states ? gstate.at(s) : nullptr,
                                  out.gk.at(s),
                                  out.gv.at(s),
                                  gated ? out.gr.at(s) : nullptr,
                                  out.gw.at(s),
                                  out.gu.at(s),
                                  states ? out.gin.at(s) : nullptr,
                                  segment,
                                  segment > 0 ? out.backward_workspace.at(s) : nullptr};
  };
  WkvOutcome<Value> out(shape, B);
  Array<Value> y_alone(N);
  Array<float> state_alone(B * 3 * C);
  const auto alone = [&](Side s) {  // without a backward pass to come
    auto call = forward(s, out, shape.segment);
    call.y = y_alone.at(s), call.kept = nullptr;
    if (states) call.state_out = state_alone.at(s);
    return call;
  };
  if (shape.in_place) out.gk.copy(k), out.gv.copy(v), out.gr.copy(r);
  walk(forward(Side::kProcessor, out, shape.segment));
  walk(alone(Side::kProcessor));
  walk(backward(Side::kProcessor, out, shape.backward_segment, shape.in_place));
  if (gpu) {
    start(forward(Side::kGpu, out, shape.segment));
    start(alone(Side::kGpu));
    start(backward(Side::kGpu, out, shape.backward_segment, shape.in_place));
  }
  // Both sides take the states from their own forward pass, which agrees but for rounding.
  check("kept", out.kept, 1e-3);
  check("y", out.y), check("y alone", y_alone);
  check("grad k", out.gk), check("grad v", out.gv);
  if (gated) check("grad r", out.gr);
  check("grad w", out.gw), check("grad u", out.gu);
  if (states) {
    check("state", out.state), check("state alone", state_alone), check("grad state", out.gin);
  }
  if (shape.segment <= 0 && shape.backward_segment <= 0) return;

  WkvOutcome<Value> whole(shape, B);
  walk(forward(Side::kProcessor, whole, 0));
  // The rows of the last state may have another o: their gradients are those of the same state.
  const auto rows = out.state.values(Side::kProcessor);
  const auto whole_rows = whole.state.values(Side::kProcessor);
  auto scaled = gstate.values(Side::kProcessor);
  for (std::size_t i = 0, channels = static_cast<std::size_t>(C); i < rows.size(); ++i) {
    const std::size_t o = i - i / channels % 3 * channels + 2 * channels;
    scaled[i] *= static_cast<float>(std::exp(double(whole_rows[o]) - double(rows[o])));
  }
  auto backward_whole = backward(Side::kProcessor, whole, 0, /*in_place=*/false);
  if (states) backward_whole.grad_state_out = scaled.data();
  walk(backward_whole);
  const auto compare = [](const std::string& what, auto& found, auto& wanted) {
    using Stored = std::remove_reference_t<decltype(*wanted.at(Side::kProcessor))>;
    expect_near(what + " of one segment", found.values(Side::kProcessor),
                wanted.values(Side::kProcessor), tolerance<Stored>());
  };
  compare("y", out.y, whole.y), compare("y alone", y_alone, whole.y);
  compare("grad k", out.gk, whole.gk), compare("grad v", out.gv, whole.gv);
  if (gated) compare("grad r", out.gr, whole.gr);
  compare("grad w", out.gw, whole.gw), compare("grad u", out.gu, whole.gu);
  if (states) compare("grad state", out.gin, whole.gin);
  if (!states) return;
  const auto means = [&](const std::vector<float>& of) {  // p / q and o + log q
    std::vector<float> all;
    for (std::size_t i = 0, channels = static_cast<std::size_t>(C); i < of.size(); ++i) {
      if (i / channels % 3 != 0) continue;
      all.push_back(of[i] / of[i + channels]);
      all.push_back(of[i + 2 * channels] + std::log(of[i + channels]));
    }
    return all;
  };
  expect_near("state of one segment", means(rows), means(whole_rows), 1e-5);
}

template <int N, class Value>
void check_wkv7(std::int64_t T) {
  const std::int64_t B = 2, H = 3, count = B * T * H * N, states = B * H * N * N;
  std::printf("wkv7 of %s, %d channels a head, %lld tokens\n",
              sizeof(Value) == 4 ? "float32" : "bfloat16", N, static_cast<long long>(T));
  const float unit = 1.7f / std::sqrt(static_cast<float>(N));  // keys of length about 1
  Array<Value> r(count, -1, 1), k(count, -1, 1), v(count, -1, 1), z(count, -unit, unit),
      b(count, -unit, unit), gy(count, -1, 1);
  Array<float> d(count, 0.55f, 0.999f), state(states, -1, 1), gstate(states, -1, 1);
  // b is z times numbers in (-1, 0), as in a model: else the state may grow.
  std::uniform_real_distribution<float> share(-1, 0);
  const auto zs = z.values(Side::kProcessor);
  for (std::int64_t i = 0; i < count; ++i)
    b.set(i, zs[static_cast<std::size_t>(i)] * share(numbers));
  b.upload();
  Array<float> state_out(states), kept(B * H * wkv7_kept_states(T) * N * N), sa(count), gd(count),
      gin(states), state_alone(states);
  Array<Value> y(count), y_alone(count), gr(count), gk(count), gv(count), gz(count), gb(count);
  const auto forward = [&](Side s) {
    return Wkv7ForwardCall<Value>{B,       T,          H,           N,
                                  r.at(s), d.at(s),    k.at(s),     v.at(s),
                                  z.at(s), b.at(s),    state.at(s), state_out.at(s),
                                  y.at(s), kept.at(s), sa.at(s)};
  };
  const auto alone = [&](Side s) {  // without a backward pass to come
    auto call = forward(s);
    call.y = y_alone.at(s), call.state_out = state_alone.at(s), call.kept = call.sa = nullptr;
    return call;
  };
  const auto backward = [&](Side s) {
    return Wkv7BackwardCall<Value>{
        B,        T,        H,          N,        r.at(s),         d.at(s),  k.at(s),      v.at(s),
        z.at(s),  b.at(s),  kept.at(s), sa.at(s), state_out.at(s), gy.at(s), gstate.at(s), gr.at(s),
        gd.at(s), gk.at(s), gv.at(s),   gz.at(s), gb.at(s),        gin.at(s)};
  };
  static Wkv7ForwardShared<N> forward_shared;
  static Wkv7BackwardShared<N> backward_shared;
  const EmulatedThreads<kWkv7ForwardThreads> rows;
  const EmulatedThreads<kWkv7BackwardThreads<N>> lines;
  for (std::int64_t i = 0; i < wkv7_forward_blocks(B, H, N); ++i) {
    wkv7_forward_block<N>(forward(Side::kProcessor), i, rows, forward_shared);
    wkv7_forward_block<N>(alone(Side::kProcessor), i, rows, forward_shared);
  }
  for (std::int64_t i = 0; i < B * H; ++i)
    wkv7_backward_block<N>(backward(Side::kProcessor), i, lines, backward_shared);
  if (gpu) {
    start(forward(Side::kGpu));
    start(alone(Side::kGpu));
    start(backward(Side::kGpu));
  }
  check("kept", kept), check("sa", sa), check("y", y), check("y alone", y_alone);
  check("state", state_out), check("state alone", state_alone);
  check("grad r", gr), check("grad d", gd), check("grad k", gk), check("grad v", gv);
  check("grad z", gz), check("grad b", gb), check("grad state", gin);
}

enum class Gate { kOne, kDiag, kLogits };

template <class Out>
void check_shift_mix(std::int64_t T, std::int64_t C, int K, Gate gate, bool factors,
                     bool own_factors) {
  const std::int64_t B = 2, N = B * T * C, tiles = shift_mix_tiles(T), G = 3;  // G divides C
  const std::int64_t rings = std::max(K - 1, 1), M = (own_factors ? B : 1) * T * std::max(K, 1);
  const auto title = "shift_mix into " + std::string(sizeof(Out) == 4 ? "float32" : "bfloat16") +
                     ", " + std::to_string(T) + " tokens, " + std::to_string(K) + " taps" +
                     (gate == Gate::kOne    ? ", no gate"
                      : gate == Gate::kDiag ? ""
                                            : ", logits") +
                     (!factors      ? ", no factors"
                      : own_factors ? ", factors of each sequence"
                                    : "");
  std::printf("%s\n", title.c_str());
  Array<float> a(N, -2, 2), m(M, 0.5f, 1.5f), conv(std::max(K, 1) * C, -1, 1), gate_x(C, -1, 1),
      gate_s(C, -1, 1), gate_b(C, -1, 1), logits(B * T * G, -300, 300), ring(B * rings * C, -1, 1),
      prev(B * C, -1, 1), mix(3 * C, 0, 1);
  Array<Out> dz0(N, -1, 1), dz1(N, -1, 1), dz2(N, -1, 1), z0(N), z1(N), z2(N);
  const std::int64_t groups = (C + kWarp - 1) / kWarp;
  Array<float> last(B * C), da(N), dlogits(N), grads(B * tiles * (kShiftMixGradRows + K) * C);
  Array<float> dm(factors ? C * B * T * K : 1), dm_gpu(factors ? groups * B * T * K : 1);
  const auto inputs = [&](Side s) {
    ShiftMixInputs<float> in{};
    in.B = B, in.T = T, in.C = C, in.taps = K, in.mixes = 3, in.a = a.at(s);
    if (factors) in.m = m.at(s), in.m_stride = own_factors ? T * K : 0;
    in.conv = conv.at(s);
    if (gate == Gate::kDiag)
      in.gate_x = gate_x.at(s), in.gate_s = gate_s.at(s), in.gate_b = gate_b.at(s);
    if (gate == Gate::kLogits) in.logits = logits.at(s), in.gates = G;
    in.ring = ring.at(s), in.prev = prev.at(s);
    for (int i = 0; i < 3; ++i) in.mix[i] = mix.at(s) + i * C;
    return in;
  };
  const auto forward = [&](Side s) {
    return ShiftMixForwardCall<float, Out>{inputs(s), {z0.at(s), z1.at(s), z2.at(s)}, last.at(s)};
  };
  const auto backward = [&](Side s) {
    return ShiftMixBackwardCall<float, Out>{
        inputs(s),   {dz0.at(s), dz1.at(s), dz2.at(s)},
        da.at(s),    gate == Gate::kLogits ? dlogits.at(s) : nullptr,
        grads.at(s), !factors ? nullptr : s == Side::kGpu ? dm_gpu.at(s) : dm.at(s)};
  };
  const ShiftMixGrid grid(B, T, C);
  with_shape(inputs(Side::kProcessor), [&](auto shape) {
    for (std::int64_t block = 0; block < grid.blocks; ++block)
      for (int thread = 0; thread < kShiftMixBlock; ++thread) {
        shift_mix_forward_thread(forward(Side::kProcessor), grid.place(block, thread), shape);
        shift_mix_backward_thread(backward(Side::kProcessor), grid.place(block, thread), OneLane(),
                                  shape);
      }
  });
  if (gpu) {
    start(forward(Side::kGpu));
    start(backward(Side::kGpu));
  }
  check("z0", z0), check("z1", z1), check("z2", z2);
  check("last", last), check("grad a", da), check("parameters", grads);
  if (gate == Gate::kLogits) check("grad logits", dlogits);
  if (!factors) return;
  const auto count = static_cast<std::size_t>(B * T * K);
  const auto summed = [&](const std::vector<float>& all) {  // over the parts (parts, count)
    std::vector<float> sums(count);
    for (std::size_t i = 0; i < all.size(); ++i) sums[i % count] += all[i];
    return sums;
  };
  const auto wanted = summed(dm.values(Side::kProcessor));
  for (const float x : wanted)
    if (std::isnan(x)) return fail("grad m: the body left a number unwritten");
  if (gpu) expect_near("grad m", summed(dm_gpu.values(Side::kGpu)), wanted, 1e-5);
}

}  // namespace
}  // namespace rwkvx::cuda::driver

int main() {
  using namespace rwkvx::cuda;
  using namespace rwkvx::cuda::driver;
  int count = 0;
  cudaDeviceProp device{};
  gpu = cudaGetDeviceCount(&count) == cudaSuccess && count > 0 &&
        cudaGetDeviceProperties(&device, 0) == cudaSuccess;
  for (const std::int64_t T : {1, 2, 33, 500}) {
    check_wkv<float>({T, 37});
    check_wkv<Bf16>({T, 37});
    check_shift_mix<float>(T, 150, 4, Gate::kDiag, true, false);
    check_shift_mix<Bf16>(T, 150, 4, Gate::kDiag, true, true);
  }
  check_wkv<float>({70, 64, /*gated=*/false});
  check_wkv<Bf16>({70, 64, /*gated=*/false});
  check_wkv<float>({65536, 33});
  for (const std::int64_t T : {1, 33, 200, 4097})
    for (const std::int64_t segment : {32, 64, 128})
      for (const float range : {1.0f, 90.0f}) {
        check_wkv<float>({T, 37, true, segment, segment, range});
        if (T > 1)  // else nothing has a gradient
          check_wkv<float>({T, 5, false, segment, segment, range, /*states=*/false});
        check_wkv<float>({T, 33, true, segment, segment, range, true, /*in_place=*/true});
        check_wkv<Bf16>({T, 33, true, segment, segment, range, true, /*in_place=*/true});
      }
  check_wkv<float>({1000, 37, true, /*segment=*/128, /*backward_segment=*/96});
  check_wkv<float>({1000, 37, true, /*segment=*/128, /*backward_segment=*/0});
  check_wkv<float>({65536, 33, true, 1024, 1024, 8.0f});
  for (const std::int64_t T : {1, 9, 33, 500}) {
    check_wkv7<64, float>(T);
    check_wkv7<64, Bf16>(T);
  }
  check_wkv7<16, float>(24), check_wkv7<32, Bf16>(25), check_wkv7<128, float>(33);
  for (const Gate gate : {Gate::kOne, Gate::kDiag, Gate::kLogits})
    for (const int K : {1, 64}) {
      check_shift_mix<float>(130, 33, K, gate, true, true);
      check_shift_mix<Bf16>(130, 33, K, gate, false, false);
    }
  check_shift_mix<float>(65536, 33, 4, Gate::kDiag, true, false);
  check_shift_mix<float>(65536, 33, 2, Gate::kLogits, false, false);
  check_pass();
  if (gpu)
    std::printf("%s: %d arrays compared, %d failures\n", device.name, compared, failures);
  else
    std::printf("no GPU: the bodies ran on the processor, the kernels did not run; %d failures\n",
                failures);
  return failures == 0 ? 0 : 1;
}
