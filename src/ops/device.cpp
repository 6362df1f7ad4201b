#include "rwkvx/ops/device.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <torch/version.h>

#include "rwkvx/base/device_name.h"
#include "rwkvx/base/error.h"

// LibTorch 2.4 made autocast a matter of the device.
#define RWKVX_AUTOCAST (TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 4)

namespace rwkvx {
namespace {

#ifdef RWKVX_CUDA
constexpr bool kBuiltWithCuda = true;
#else
constexpr bool kBuiltWithCuda = false;
#endif

int gpu_count() { return kBuiltWithCuda && at::hasCUDA() ? static_cast<int>(at::getNumGPUs()) : 0; }

}  // namespace

c10::Device find_device(const std::string& setting, const std::string& where) {
  const auto name = parse_device_name(setting, where);
  const int found = gpu_count();
  const bool wanted = name.kind == DeviceName::Kind::kCuda;
  if (wanted && !kBuiltWithCuda)
    throw ConfigError(where, "wanted " + setting +
                                 ", but this program was built without CUDA; use cpu, or build it "
                                 "with scripts/build --preset cuda");
  if (wanted && found == 0)
    throw ConfigError(where, "wanted " + setting + ", but LibTorch finds no NVIDIA GPU; use cpu");
  if (wanted && name.index >= found)
    throw ConfigError(where, "wanted " + setting + ", but the last GPU of this machine is cuda:" +
                                 std::to_string(found - 1));
  if (wanted || (name.kind == DeviceName::Kind::kAuto && found > 0))
    return {c10::kCUDA, static_cast<c10::DeviceIndex>(name.index)};
  return {c10::kCPU};
}

#if RWKVX_AUTOCAST

MixedPrecision::MixedPrecision(c10::Device device, bool everywhere)
    : type_(device.type()), on_(everywhere || device.is_cuda()) {
  if (!on_) return;
  at::autocast::set_autocast_dtype(type_, at::kBFloat16);
  at::autocast::set_autocast_enabled(type_, true);
  at::autocast::increment_nesting();
}

MixedPrecision::~MixedPrecision() {
  if (!on_) return;
  // The cache holds bfloat16 copies of the weights, which the next step changes.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(type_, false);
}

c10::ScalarType linear_type(c10::Device device, c10::ScalarType given) {
  return at::autocast::is_autocast_enabled(device.type())
             ? at::autocast::get_autocast_dtype(device.type())
             : given;
}

#else

MixedPrecision::MixedPrecision(c10::Device device, bool everywhere)
    : type_(device.type()), on_(false) {
  TORCH_CHECK(!everywhere && !device.is_cuda(), "bfloat16 needs LibTorch 2.4 or later");
}
MixedPrecision::~MixedPrecision() = default;

c10::ScalarType linear_type(c10::Device, c10::ScalarType given) { return given; }

#endif

}  // namespace rwkvx
