// Where tensors live: the kinds of devices beside the CPU, and the choice among them.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rwkvx/modules/shift.h"

namespace rwkvx {

// One kind of device: all that the program asks about it, and the kernels that it has of its own.
// Adding one is a row of the table in device.cpp and its own files.
struct DeviceKind {
  std::string_view name;  // in settings: "cuda", "cuda:1"
  std::string_view what;  // in messages: "NVIDIA GPU"
  c10::DeviceType type;

  int (*usable)();   // devices that this build can compute on
  int (*visible)();  // devices that the machine shows, usable or not
  // Why none is usable, and what to do about it.
  std::string (*why_none)();
  // What is to be said before work begins on one, in bfloat16 or not; "" where nothing is.
  std::string (*warning)(c10::Device device, bool bfloat16);

  // The operators of the cores, for an x that takes(x); see cores/rwkv4/modules/wkv.h,
  // cores/rwkv7/modules/wkv.h, cores/shift/modules/shift_mix.h.
  bool (*takes)(const at::Tensor& x);
  std::pair<at::Tensor, at::Tensor> (*wkv)(const at::Tensor& w, const at::Tensor& u,
                                           const at::Tensor& k, const at::Tensor& v,
                                           const at::Tensor& state, const at::Tensor& r);
  std::pair<at::Tensor, at::Tensor> (*wkv7)(const at::Tensor& r, const at::Tensor& d,
                                            const at::Tensor& k, const at::Tensor& v,
                                            const at::Tensor& z, const at::Tensor& b,
                                            const at::Tensor& state);
  std::vector<at::Tensor> (*shift_mix)(const at::Tensor& a, const ShiftParameters& learned,
                                       const at::Tensor& phi, const std::vector<at::Tensor>& mixes,
                                       at::Tensor& ring, at::Tensor& prev);
};
// The kind whose kernels take x; null: LibTorch's operators and the CPU's kernels do.
const DeviceKind* kernels_for(const at::Tensor& x);

// The device that a setting names: "auto" (the first one beside the CPU that is usable, else the
// CPU), "cpu", or a kind's name with an index or without. Throws ConfigError at `where` for other
// texts and for a device that is not to be had.
c10::Device find_device(const std::string& setting, const std::string& where);

// What is to be said before work begins on a device; "" where nothing is.
std::string device_warning(c10::Device device, bool bfloat16);

// The most bytes that tensors on a device have taken at a time; 0 for the CPU, and where this
// LibTorch does not count them.
double peak_device_memory_bytes(c10::Device device);

// A message of a device's with what helps to read it: a kernel's fault is reported by a later call.
// Other messages come back as they are.
std::string explain_device_fault(const std::string& message);

}  // namespace rwkvx
