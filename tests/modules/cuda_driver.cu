// Runs the CUDA kernels without LibTorch: the bodies on the processor, and where there is a GPU the
// kernels on it, which must agree. What is to be written holds NaN before: a kernel that writes
// nothing, or not all, is seen. scripts/check_cuda builds and runs it.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cores/rwkv4/cuda/wkv.h"
#include "cores/rwkv7/cuda/wkv.h"
#include "cores/shift/cuda/shift_mix.h"

namespace rwkvx::cuda {
namespace {

bool gpu = false;
int failures = 0, compared = 0;
std::mt19937 numbers(1);

enum class Side { kProcessor, kGpu };

void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

// An array on the processor and its twin in the GPU's own memory.
template <class Value>
class Array {
 public:
  // Numbers between low and high.
  Array(std::int64_t count, float low, float high) : Array(count) {
    std::uniform_real_distribution<float> draw(low, high);
    for (std::int64_t i = 0; i < count; ++i) store(host_.data(), i, draw(numbers));
    upload();
  }
  // NaN, to be written by a kernel.
  explicit Array(std::int64_t count) : host_(static_cast<std::size_t>(count)) {
    for (std::int64_t i = 0; i < count; ++i)
      store(host_.data(), i, std::numeric_limits<float>::quiet_NaN());
    if (gpu) require(cudaMalloc(&device_, bytes()), "cudaMalloc");
    upload();
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() {
    if (gpu) cudaFree(device_);
  }
  Value* at(Side side) { return side == Side::kGpu ? device_ : host_.data(); }
  void set(std::int64_t i, float value) { store(host_.data(), i, value); }
  void upload() {
    if (gpu)
      require(cudaMemcpy(device_, host_.data(), bytes(), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  std::vector<float> values(Side side) {
    std::vector<Value> all = host_;
    if (side == Side::kGpu)
      require(cudaMemcpy(all.data(), device_, bytes(), cudaMemcpyDeviceToHost), "cudaMemcpy");
    std::vector<float> floats(all.size());
    for (std::size_t i = 0; i < all.size(); ++i)
      floats[i] = load(all.data(), static_cast<std::int64_t>(i));
    return floats;
  }

 private:
  std::size_t bytes() const { return sizeof(Value) * host_.size(); }
  std::vector<Value> host_;
  Value* device_ = nullptr;
};

void fail(const std::string& what) {
  ++failures;
  std::printf("  FAILED: %s\n", what.c_str());
}

template <class Value>
constexpr double tolerance() {
  return sizeof(Value) == 4 ? 1e-5 : 1e-2;
}

void expect_near(const std::string& what, const std::vector<float>& found,
                 const std::vector<float>& wanted, double allowed) {
  double away = 0, size = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    away += std::pow(double(found[i]) - double(wanted[i]), 2);
    size += std::pow(double(wanted[i]), 2);
  }
  const double error = std::sqrt(away / std::max(size, 1e-30));
  ++compared;
  if (!(error <= allowed && size > 0))  // NaN fails too
    fail(what + ": relative difference " + std::to_string(error) + ", allowed " +
         std::to_string(allowed));
}

// That the bodies wrote every number, and the kernel the same ones.
template <class Value>
void check(const std::string& what, Array<Value>& array, double allowed = tolerance<Value>()) {
  const auto wanted = array.values(Side::kProcessor);
  for (const float x : wanted)
    if (std::isnan(x)) return fail(what + ": the body left a number unwritten, or made NaN");
  if (gpu) expect_near(what, array.values(Side::kGpu), wanted, allowed);
}

template <class Call>
void start(const Call& call) {
  const auto error = launch(call, nullptr);
  if (!error.empty()) return fail("the kernel did not start: " + error);
  require(cudaDeviceSynchronize(), "the kernel did not run");
}

template <class Value>
void check_wkv(std::int64_t T, std::int64_t C, bool gated) {
  const std::int64_t B = 2, N = B * T * C, S = wkv_kept_states(T);
  const auto title = "wkv of " + std::string(sizeof(Value) == 4 ? "float32" : "bfloat16") + ", " +
                     std::to_string(T) + " tokens" + (gated ? "" : ", no r");
  std::printf("%s\n", title.c_str());
  Array<float> w(C, -2, -0.01f), u(C, -1, 1), state(B * 3 * C, 0.1f, 1), gstate(B * 3 * C, -1, 1);
  for (std::int64_t c = 0; c < C; c += 5) w.set(c, -200), u.set(c, c % 2 == 0 ? 80.0f : -80.0f);
  w.upload(), u.upload();
  Array<Value> k(N, -90, 90), v(N, -1, 1), r(N, -200, 200), gy(N, -1, 1);
  Array<float> state_out(B * 3 * C), kept(B * S * 3 * C), gw(B * C), gu(B * C), gin(B * 3 * C);
  Array<Value> y(N), y_alone(N), gk(N), gv(N), gr(N);
  Array<float> state_alone(B * 3 * C);
  const auto forward = [&](Side s) {
    return WkvForwardCall<Value>{B,
                                 T,
                                 C,
                                 w.at(s),
                                 u.at(s),
                                 k.at(s),
                                 v.at(s),
                                 gated ? r.at(s) : nullptr,
                                 y.at(s),
                                 state.at(s),
                                 state_out.at(s),
                                 kept.at(s)};
  };
  const auto alone = [&](Side s) {  // without a backward pass to come
    auto call = forward(s);
    call.y = y_alone.at(s), call.state_out = state_alone.at(s), call.kept = nullptr;
    return call;
  };
  const auto backward = [&](Side s) {
    return WkvBackwardCall<Value>{B,
                                  T,
                                  C,
                                  w.at(s),
                                  u.at(s),
                                  k.at(s),
                                  v.at(s),
                                  gated ? r.at(s) : nullptr,
                                  kept.at(s),
                                  state.at(s),
                                  state_out.at(s),
                                  gy.at(s),
                                  gstate.at(s),
                                  gk.at(s),
                                  gv.at(s),
                                  gated ? gr.at(s) : nullptr,
                                  gw.at(s),
                                  gu.at(s),
                                  gin.at(s)};
  };
  for (std::int64_t i = 0; i < B * C; ++i) wkv_forward_thread(forward(Side::kProcessor), i);
  for (std::int64_t i = 0; i < B * C; ++i) wkv_forward_thread(alone(Side::kProcessor), i);
  for (std::int64_t i = 0; i < B * C; ++i) wkv_backward_thread(backward(Side::kProcessor), i);
  if (gpu) {
    start(forward(Side::kGpu));
    start(alone(Side::kGpu));
    start(backward(Side::kGpu));
  }
  // Both sides take the states from their own forward pass, which agrees but for rounding.
  check("kept", kept, 1e-3);
  check("y", y), check("y alone", y_alone);
  check("state", state_out), check("state alone", state_alone);
  check("grad k", gk), check("grad v", gv);
  if (gated) check("grad r", gr);
  check("grad w", gw), check("grad u", gu), check("grad state", gin);
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
  const std::int64_t groups = (C + kLaunchLanes - 1) / kLaunchLanes;
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
  for (std::int64_t block = 0; block < grid.blocks; ++block)
    for (int thread = 0; thread < kShiftMixBlock; ++thread) {
      shift_mix_forward_thread(forward(Side::kProcessor), grid.place(block, thread));
      shift_mix_backward_thread(backward(Side::kProcessor), grid.place(block, thread), OneLane());
    }
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
}  // namespace rwkvx::cuda

int main() {
  using namespace rwkvx::cuda;
  int count = 0;
  cudaDeviceProp device{};
  gpu = cudaGetDeviceCount(&count) == cudaSuccess && count > 0 &&
        cudaGetDeviceProperties(&device, 0) == cudaSuccess;
  for (const std::int64_t T : {1, 2, 33, 500}) {
    check_wkv<float>(T, 37, /*gated=*/true);
    check_wkv<Bf16>(T, 37, /*gated=*/true);
    check_shift_mix<float>(T, 150, 4, Gate::kDiag, true, false);
    check_shift_mix<Bf16>(T, 150, 4, Gate::kDiag, true, true);
  }
  check_wkv<float>(70, 64, /*gated=*/false);
  check_wkv<Bf16>(70, 64, /*gated=*/false);
  check_wkv<float>(65536, 33, /*gated=*/true);
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
  if (gpu)
    std::printf("%s: %d arrays compared, %d failures\n", device.name, compared, failures);
  else
    std::printf("no GPU: the bodies ran on the processor, the kernels did not run; %d failures\n",
                failures);
  return failures == 0 ? 0 : 1;
}
