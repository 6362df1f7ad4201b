#include "rwkvx/ops/device.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <torch/version.h>
#ifdef RWKVX_CUDA
#include <c10/cuda/CUDAFunctions.h>
#endif

#include <mutex>
#include <set>

#include "rwkvx/base/device_name.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/log.h"

#ifdef RWKVX_CUDA
#include <ATen/cuda/CUDAContext.h>
#endif
// LibTorch 2.9 counts the memory of every kind of device behind one interface.
#define RWKVX_DEVICE_MEMORY (TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 9)
#if RWKVX_DEVICE_MEMORY
#include <c10/core/CachingDeviceAllocator.h>
#endif

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

// Why no GPU is to be had, and what to do about it.
std::string no_gpu_reason() {
#ifdef RWKVX_CUDA
  std::string reason = "LibTorch finds none that it can use";
  try {
    c10::cuda::device_count_ensure_non_zero();
  } catch (const c10::Error& error) {  // the driver is too old, or the GPU does not start
    reason = error.what_without_backtrace();
    reason = reason.substr(0, reason.find('\n'));
  }
  return reason + "; look at nvidia-smi and its driver version";
#else
  return "this program was built without CUDA; scripts/setup --cuda and scripts/build add it, "
         "--device cpu says that it is meant";
#endif
}

// Once per process and text: a study chooses its device many times.
void say_device(const DeviceName& setting, c10::Device chosen) {
  const int visible = chosen.is_cpu() ? visible_gpus() : 0;
  if (chosen.is_cpu() && visible == 0) return;
  const auto note = device_note(setting, chosen.str(), visible,
                                setting.kind == DeviceName::Kind::kAuto ? no_gpu_reason() : "");
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::lock_guard lock(mutex);
  if (!said.insert(note.text).second) return;
  note.warning ? log_warning(note.text) : log_info(note.text);
}

}  // namespace

c10::Device find_device(const std::string& setting, const std::string& where) {
  const auto name = parse_device_name(setting, where);
  const int found = gpu_count();
  const bool wanted = name.kind == DeviceName::Kind::kCuda;
  if (wanted && !kBuiltWithCuda)
    throw ConfigError(where, "expected " + setting +
                                 ", but this program was built without CUDA; use cpu, or build it "
                                 "with scripts/build --preset cuda");
  if (wanted && found == 0)
    throw ConfigError(where, "expected " + setting + ", but LibTorch finds no NVIDIA GPU (" +
                                 no_gpu_reason() + "); use cpu");
  if (wanted && name.index >= found)
    throw ConfigError(where, "expected " + setting + ", but the last GPU of this machine is cuda:" +
                                 std::to_string(found - 1));
  c10::Device chosen(c10::kCPU);
  if (wanted || (name.kind == DeviceName::Kind::kAuto && found > 0))
    chosen = {c10::kCUDA, static_cast<c10::DeviceIndex>(name.index)};
  say_device(name, chosen);
  return chosen;
}

bool uses_bfloat16(const std::string& precision, c10::Device device, const std::string& where) {
  if (precision == "bf16" && device.is_cpu())
    throw ConfigError(where,
                      "expected f32 or auto on the CPU, got bf16; name a GPU in "
                      "train.device, or set f32");
  return !device.is_cpu() && precision != "f32";
}

int compute_capability([[maybe_unused]] c10::Device device) {
#ifdef RWKVX_CUDA
  if (device.is_cuda()) {
    const auto* found = at::cuda::getDeviceProperties(device.index());
    return 10 * found->major + found->minor;
  }
#endif
  return 0;
}

std::string capability_warning(const std::string& device, int capability, bool bfloat16) {
  if (!bfloat16 || capability == 0 || capability >= 80) return "";
  return device + " has compute capability " + std::to_string(capability / 10) + "." +
         std::to_string(capability % 10) +
         "; below 8.0 bfloat16 is emulated and slow: set train.precision to f32";
}

double peak_device_memory_bytes([[maybe_unused]] c10::Device device) {
#if RWKVX_DEVICE_MEMORY
  if (!device.is_cpu() && at::hasCUDA())
    return static_cast<double>(at::getDeviceAllocator(device.type())
                                   ->getDeviceStats(device.index())
                                   .allocated_bytes[0]  // of both sizes of blocks together
                                   .peak);
#endif
  return 0;
}

std::string explain_gpu_fault(const std::string& message) {
  if (message.find("CUDA error") == std::string::npos &&
      message.find("CUDA kernel") == std::string::npos)
    return message;
  return message.substr(0, message.find('\n')) +
         "; the fault may be an earlier call's: run again with CUDA_LAUNCH_BLOCKING=1, which "
         "names it";
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
