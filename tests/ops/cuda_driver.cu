// Runs the CUDA kernels without LibTorch: the bodies on the processor, and where there is a GPU the
// kernels on it, which must agree. scripts/check_cuda builds and runs it.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "ops/cuda/launch.h"

namespace rwkvx::cuda {
namespace {

bool gpu = false;
int failures = 0;
std::mt19937 numbers(1);

// An array that the processor and, where there is one, the GPU read and write.
class Array {
 public:
  explicit Array(std::int64_t count, float low = 0, float high = 0) : count_(count) {
    if (gpu) {
      if (cudaMallocManaged(&data_, bytes()) != cudaSuccess) std::exit(1);
    } else {
      data_ = static_cast<float*>(std::malloc(bytes()));
    }
    std::uniform_real_distribution<float> draw(low, high);
    for (std::int64_t i = 0; i < count; ++i) data_[i] = high > low ? draw(numbers) : 0.0f;
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() {
    if (gpu)
      cudaFree(data_);
    else
      std::free(data_);
  }
  operator float*() const { return data_; }
  std::vector<float> copy() const { return {data_, data_ + count_}; }

 private:
  std::size_t bytes() const { return sizeof(float) * static_cast<std::size_t>(count_ + 1); }
  float* data_ = nullptr;
  std::int64_t count_;
};

// The sum over the parts of an array (parts, count).
std::vector<float> summed(const std::vector<float>& all, std::size_t count) {
  std::vector<float> sums(count);
  for (std::size_t i = 0; i < all.size(); ++i) sums[i % count] += all[i];
  return sums;
}

void expect_near(const char* what, const std::vector<float>& found,
                 const std::vector<float>& wanted) {
  double away = 0, size = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    away += std::pow(double(found[i]) - double(wanted[i]), 2);
    size += std::pow(double(wanted[i]), 2);
  }
  const double error = std::sqrt(away / std::max(size, 1e-30));
  const bool good = error <= 1e-5 && size > 0;
  failures += good ? 0 : 1;
  std::printf("  %-14s relative difference %.1e%s\n", what, error, good ? "" : "  TOO LARGE");
}

template <class Call>
void start(const Call& call) {
  const auto error = launch(call, nullptr);
  if (error.empty() && cudaDeviceSynchronize() == cudaSuccess) return;
  std::printf("  the kernel did not run: %s\n", error.c_str());
  ++failures;
}

void check_wkv(std::int64_t T) {
  const std::int64_t B = 2, C = 37, N = B * T * C, S = wkv_kept_states(T);
  Array w(C, -2, -0.01f), u(C, -1, 1), k(N, -90, 90), v(N, -1, 1), r(N, -2, 2), gy(N, -1, 1);
  Array state(B * 3 * C, 0.1f, 1), state_out(B * 3 * C), kept(B * S * 3 * C), y(N), gk(N), gv(N),
      gr(N), gw(B * C), gu(B * C);
  const WkvForwardCall<float> forward{B, T, C, w, u, k, v, r, y, state, state_out, kept};
  const WkvBackwardCall<float> backward{B,         T,  C,       w,  u,  k,  v,  r,  kept,   state,
                                        state_out, gy, nullptr, gk, gv, gr, gw, gu, nullptr};
  for (std::int64_t i = 0; i < B * C; ++i) wkv_forward_thread(forward, i);
  for (std::int64_t i = 0; i < B * C; ++i) wkv_backward_thread(backward, i);
  const auto host_y = y.copy(), host_k = gk.copy(), host_v = gv.copy(), host_r = gr.copy(),
             host_w = gw.copy(), host_u = gu.copy();
  if (!gpu) return;
  std::printf("wkv, %lld tokens, on the GPU\n", static_cast<long long>(T));
  start(forward);
  start(backward);
  expect_near("y", y.copy(), host_y);
  expect_near("grad k", gk.copy(), host_k);
  expect_near("grad v", gv.copy(), host_v);
  expect_near("grad r", gr.copy(), host_r);
  expect_near("grad w", gw.copy(), host_w);
  expect_near("grad u", gu.copy(), host_u);
}

void check_shift_mix(std::int64_t T) {
  const std::int64_t B = 2, C = 150, N = B * T * C, K = 4, tiles = shift_mix_tiles(T);
  Array a(N, -2, 2), m(T * K, 0.5f, 1.5f), conv(K * C, -1, 1), gate_x(C, -1, 1), gate_s(C, -1, 1),
      gate_b(C, -1, 1), ring(B * (K - 1) * C, -1, 1), prev(B * C, -1, 1), mix(3 * C, 0, 1),
      dz(3 * N, -1, 1);
  Array z(3 * N), last(B * C), da(N), grads(B * tiles * (kShiftMixGradRows + K) * C),
      dm(C * B * T * K);
  ShiftMixInputs<float> in{B,      T,      C,      4,       3, a,    m,    0, conv,
                           gate_x, gate_s, gate_b, nullptr, 0, ring, prev, {}};
  ShiftMixForwardCall<float, float> forward{in, {}, last};
  ShiftMixBackwardCall<float, float> backward{in, {}, da, nullptr, grads, dm};
  for (int i = 0; i < 3; ++i) {
    forward.in.mix[i] = backward.in.mix[i] = mix + i * C;
    forward.z[i] = z + i * N;
    backward.dz[i] = dz + i * N;
  }
  const ShiftMixGrid grid(B, T, C);
  for (std::int64_t block = 0; block < grid.blocks; ++block)
    for (int thread = 0; thread < kShiftMixBlock; ++thread) {
      shift_mix_forward_thread(forward, grid.place(block, thread));
      shift_mix_backward_thread(backward, grid.place(block, thread), OneLane());
    }
  const auto host_z = z.copy(), host_da = da.copy(), host_grads = grads.copy();
  const auto count = static_cast<std::size_t>(B * T * K);
  const auto host_dm = summed(dm.copy(), count);
  if (!gpu) return;
  std::printf("shift_mix, %lld tokens, on the GPU\n", static_cast<long long>(T));
  start(forward);
  start(backward);
  expect_near("z", z.copy(), host_z);
  expect_near("grad a", da.copy(), host_da);
  expect_near("parameters", grads.copy(), host_grads);
  auto parts = dm.copy();
  parts.resize(count * static_cast<std::size_t>((C + kLaunchLanes - 1) / kLaunchLanes));
  expect_near("grad m", summed(parts, count), host_dm);
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
    check_wkv(T);
    check_shift_mix(T);
  }
  if (gpu)
    std::printf("%s: %d differences that are too large\n", device.name, failures);
  else
    std::printf("no GPU: the bodies ran on the processor, the kernels did not run\n");
  return failures == 0 ? 0 : 1;
}
