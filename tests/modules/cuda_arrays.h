// Arrays on the processor and their twins on a GPU, and how the two are compared; for the drivers
// of the CUDA kernels.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "rwkvx/ops/cuda/host_device.h"

namespace rwkvx::cuda {

inline void store(double* x, std::int64_t i, float value) { x[i] = value; }
inline float load(const double* x, std::int64_t i) { return static_cast<float>(x[i]); }
inline void store(std::int64_t* x, std::int64_t i, float value) {
  x[i] = value == value ? static_cast<std::int64_t>(value) : -1;
}
// What holds no numbers has no NaN.
template <class Other>
void store(Other*, std::int64_t, float) {}

namespace driver {

inline bool gpu = false;  // whether there is one
inline int failures = 0, compared = 0;
inline std::mt19937 numbers(1);

enum class Side { kProcessor, kGpu };

inline void require(cudaError_t error, const char* what) {
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
  void copy(const Array& other) {
    host_ = other.host_;
    upload();
  }
  void set(std::int64_t i, float value) { store(host_.data(), i, value); }
  void set_all(const std::vector<Value>& values) {
    host_ = values;
    upload();
  }
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

inline void fail(const std::string& what) {
  ++failures;
  std::printf("  FAILED: %s\n", what.c_str());
}

template <class Value>
constexpr const char* type_name() {
  return sizeof(Value) == 4 ? "float32" : "bfloat16";
}
template <class Value>
constexpr double tolerance() {
  return sizeof(Value) == 4 ? 1e-5 : 1e-2;
}

inline void expect_near(const std::string& what, const std::vector<float>& found,
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

// What a program of several files checks.
void check_pass();

}  // namespace driver
}  // namespace rwkvx::cuda
