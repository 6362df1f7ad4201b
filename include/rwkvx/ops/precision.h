// What operators compute in.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string>

namespace rwkvx {

// Whether linear layers on `device` compute in bfloat16: `precision` is "auto" (where they are on a
// GPU), "bf16" or "f32". Throws ConfigError at `where` for bf16 on the CPU.
bool uses_bfloat16(const std::string& precision, c10::Device device, const std::string& where);

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
// else keeps its precision. Does nothing on the CPU unless `everywhere`.
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
