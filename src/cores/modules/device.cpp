#include "rwkvx/modules/device.h"

#include <ATen/Context.h>
#include <torch/version.h>

#include <mutex>
#include <set>

#include "cores/cuda/facts.h"
#include "cores/rwkv4/cuda/wkv_function.h"
#include "cores/rwkv7/cuda/wkv_function.h"
#include "cores/shift/cuda/shift_mix_function.h"
#include "rwkvx/base/device_name.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/log.h"
#include "rwkvx/ops/cuda/call.h"

// LibTorch 2.9 counts the memory of every kind of device behind one interface.
#define RWKVX_DEVICE_MEMORY (TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 9)
#if RWKVX_DEVICE_MEMORY
#include <c10/core/CachingDeviceAllocator.h>
#endif

namespace rwkvx {
namespace {

const DeviceKind kKinds[] = {
    {.name = "cuda",
     .what = "NVIDIA GPU",
     .type = c10::kCUDA,
     .usable = cuda::usable_gpus,
     .visible = [] { return visible_gpus(); },
     .why_none = cuda::no_gpu_reason,
     .warning = cuda::gpu_warning,
     .takes = cuda::takes,
     .wkv = cuda::wkv,
     .wkv7 = cuda::wkv7,
     .shift_mix = cuda::shift_mix},
};

std::string names() {
  std::string text = "auto, cpu";
  for (const auto& kind : kKinds)
    text += " or " + std::string(kind.name) + ", " + std::string(kind.name) + ":N";
  return text;
}

// Once per process and text: a study chooses its device many times.
void say_device(const DeviceName& setting, c10::Device chosen) {
  int visible = 0;
  const DeviceKind* idle = nullptr;
  if (chosen.is_cpu())
    for (const auto& kind : kKinds)
      if (const int found = kind.visible(); found > 0 && idle == nullptr)
        visible = found, idle = &kind;
  if (chosen.is_cpu() && idle == nullptr) return;
  const auto note =
      device_note(setting, chosen.str(), visible, idle == nullptr ? "" : std::string(idle->what),
                  setting.is_auto() && idle != nullptr ? idle->why_none() : "");
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::lock_guard lock(mutex);
  if (!said.insert(note.text).second) return;
  note.warning ? log_warning(note.text) : log_info(note.text);
}

c10::Device at(const DeviceKind& kind, int index) {
  return {kind.type, static_cast<c10::DeviceIndex>(index)};
}

c10::Device choose(const DeviceName& name, const std::string& setting, const std::string& where) {
  if (name.is_cpu()) return c10::kCPU;
  for (const auto& kind : kKinds) {
    if (name.is_auto() && kind.usable() > 0) return at(kind, 0);
    if (name.kind != kind.name) continue;
    const int found = kind.usable();
    if (found == 0)
      throw ConfigError(where, "expected " + setting + ", but " + kind.why_none() + "; use cpu");
    if (name.index >= found)
      throw ConfigError(where, "expected " + setting + ", but the last " + std::string(kind.what) +
                                   " of this machine is " + std::string(kind.name) + ":" +
                                   std::to_string(found - 1));
    return at(kind, name.index);
  }
  if (name.is_auto()) return c10::kCPU;
  throw ConfigError(where, "expected " + names() + ", got \"" + setting + "\"");
}

}  // namespace

const DeviceKind* kernels_for(const at::Tensor& x) {
  for (const auto& kind : kKinds)
    if (kind.takes(x)) return &kind;
  return nullptr;
}

c10::Device find_device(const std::string& setting, const std::string& where) {
  const auto name = parse_device_name(setting, where);
  const auto chosen = choose(name, setting, where);
  say_device(name, chosen);
  return chosen;
}

std::string device_warning(c10::Device device, bool bfloat16) {
  for (const auto& kind : kKinds)
    if (kind.type == device.type()) return kind.warning(device, bfloat16);
  return "";
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

std::string explain_device_fault(const std::string& message) {
  if (message.find("CUDA error") == std::string::npos &&
      message.find("CUDA kernel") == std::string::npos)
    return message;
  return message.substr(0, message.find('\n')) +
         "; the fault may be an earlier call's: run again with CUDA_LAUNCH_BLOCKING=1, which "
         "names it";
}

}  // namespace rwkvx
