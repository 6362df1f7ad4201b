// Where tensors live and what linear layers compute in.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string>

namespace rwkvx {

// The device that a setting names: "auto" (the first GPU where there is one that this build has
// kernels for, else the processor), "cpu", "cuda" or "cuda:N". Throws ConfigError at `where` for
// other texts and for a GPU that is not to be had.
c10::Device find_device(const std::string& setting, const std::string& where);

// Whether linear layers on `device` compute in bfloat16: `precision` is "auto" (where they are on a
// GPU), "bf16" or "f32". Throws ConfigError at `where` for bf16 on the processor.
bool uses_bfloat16(const std::string& precision, c10::Device device, const std::string& where);

// What the GPU can do, as major * 10 + minor: 90 for an H100; 0 where it is not known.
int compute_capability(c10::Device device);
// What is to be said before work begins on a device of that capability; "" where nothing is.
std::string capability_warning(const std::string& device, int capability, bool bfloat16);

// The most bytes that tensors on a GPU have taken at a time; 0 for the processor, and where this
// LibTorch does not count them.
double peak_device_memory_bytes(c10::Device device);

// A message of CUDA's with what helps to read it: a kernel's fault is reported by a later call.
// Other messages come back as they are.
std::string explain_gpu_fault(const std::string& message);

// While it lives, wkv() and shift_mix() of the calling thread are LibTorch's operators on a GPU
// too, for comparisons.
class ReferenceOperators {
 public:
  explicit ReferenceOperators(bool on = true);
  ~ReferenceOperators();
  ReferenceOperators(const ReferenceOperators&) = delete;
  ReferenceOperators& operator=(const ReferenceOperators&) = delete;
  static bool active();

 private:
  bool before_;
};

// While it lives, linear layers of the calling thread on the GPU compute in bfloat16; everything
// else keeps its precision. Does nothing on the processor unless `everywhere`.
class MixedPrecision {
 public:
  explicit MixedPrecision(c10::Device device, bool everywhere = false);
  ~MixedPrecision();
  MixedPrecision(const MixedPrecision&) = delete;
  MixedPrecision& operator=(const MixedPrecision&) = delete;

 private:
  c10::DeviceType type_;
  bool on_;
};

// What linear layers on `device` compute in where they are given `given`.
c10::ScalarType linear_type(c10::Device device, c10::ScalarType given);

}  // namespace rwkvx
