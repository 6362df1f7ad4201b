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
