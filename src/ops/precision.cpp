#include "rwkvx/ops/precision.h"

#include <ATen/autocast_mode.h>
#include <torch/version.h>

#include "rwkvx/base/error.h"

// LibTorch 2.4 made autocast a matter of the device.
#define RWKVX_AUTOCAST (TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 4)

namespace rwkvx {

bool uses_bfloat16(const std::string& precision, c10::Device device, const std::string& where) {
  if (precision == "bf16" && device.is_cpu())
    throw ConfigError(where,
                      "expected f32 or auto on the CPU, got bf16; name a GPU in "
                      "train.device, or set f32");
  return !device.is_cpu() && precision != "f32";
}

namespace {
thread_local bool reference_operators = false;
}
ReferenceOperators::ReferenceOperators(bool on) : before_(reference_operators) {
  reference_operators = on;
}
ReferenceOperators::~ReferenceOperators() { reference_operators = before_; }
bool ReferenceOperators::active() { return reference_operators; }

#if RWKVX_AUTOCAST

MixedPrecision::MixedPrecision(c10::Device device, bool everywhere)
    : type_(device.type()), on_(everywhere || !device.is_cpu()) {
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
  TORCH_CHECK(!everywhere && device.is_cpu(), "bfloat16 needs LibTorch 2.4 or later");
}
MixedPrecision::~MixedPrecision() = default;

c10::ScalarType linear_type(c10::Device, c10::ScalarType given) { return given; }

#endif

}  // namespace rwkvx
